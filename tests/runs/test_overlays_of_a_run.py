"""Overlays of a whole run: of images that are read once, on the disk before their rows are."""

from __future__ import annotations

import errno
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lcam_cli import BackboneOptions, EngineOptions, ExplainOptions, OverlayOptions, explain_folder
from lcam_cli.errors import LcamError
from lcam_cli.images import picture_tasks
from lcam_cli.images.decoder import Decoder
from lcam_cli.images.request import PictureTask
from lcam_cli.maps import syncing
from lcam_cli.maps.hdf5 import layout
from tests.cli import job

COUNT = 10
OPTIONS = ExplainOptions(
    method="gradcam",
    top_k=2,
    backbone=BackboneOptions("own.py:net", "none", image_size=32),
    engine=EngineOptions("cpu", batch_size=4, workers=2),
    overlays=OverlayOptions(folder=Path("overlays")),
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: ten images, and one that cannot be read."""
    job.begin(tmp_path, monkeypatch, "from tests.tiny import tiny_network as net\n", COUNT)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no picture")
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.png")}


def test_every_picture_is_drawn_by_the_process_that_has_read_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[bool] = []
    do = Decoder.do

    def noted(self: Decoder, task: PictureTask) -> str:
        kept.append(task.keep is not None)
        # Nothing is there to be read a second time.
        elsewhere = replace(task.request, path=f"{task.request.path}.gone")
        return do(self, replace(task, request=elsewhere))

    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "do", noted)
        explain_folder("photos", options=OPTIONS)
    assert kept == [True] * COUNT, "one task for the two classes of an image"
    written = files(folder / "overlays")
    assert len(written) == 2 * COUNT
    # Where there is no room to keep any, they are read again, and drawn the same.
    monkeypatch.setattr(picture_tasks, "_ROOM", 0)
    again = replace(OPTIONS, overwrite=True, overlays=OverlayOptions(folder=Path("again")))
    explain_folder("photos", options=again)
    assert files(folder / "again") == written
    for path in (folder / "again").rglob("*.png"):
        with Image.open(path) as drawn:
            assert np.asarray(drawn).std() > 0


def test_overlays_are_on_the_disk_before_their_rows(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[str] = set()
    seen: list[int] = []
    set_lengths, sync = layout.set_lengths, syncing.sync

    def noted(path: Path) -> None:
        sync(path)
        synced.add(path.name)

    def checked(path: Path, lengths: dict[str, int]) -> None:
        assert len(synced) >= lengths["saliency"]
        seen.append(lengths["saliency"])
        set_lengths(path, lengths)

    monkeypatch.setattr(syncing, "sync", noted)
    monkeypatch.setattr(layout, "set_lengths", checked)
    monkeypatch.setattr("lcam_cli.maps.hdf5.writer.FLUSH_ROWS", 4)
    explain_folder("photos", options=OPTIONS)
    assert len(seen) > 2
    assert seen[-1] == 2 * COUNT
    assert synced == set(files(folder / "overlays"))


def test_nothing_more_is_drawn_after_a_full_disk(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def full(self: Decoder, task: PictureTask) -> str:
        asked.append(task.path)
        time.sleep(0.05)
        return f"0 {errno.ENOSPC} 5000"

    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "do", full)
        with pytest.raises(LcamError, match=r"cannot write .*overlays.*at least 5.0 kB more"):
            explain_folder("photos", options=OPTIONS)
    assert len(asked) <= COUNT, "each once at most"
    assert not files(folder / "overlays")
    explain_folder("photos", options=replace(OPTIONS, resume=True))
    assert len(files(folder / "overlays")) == 2 * COUNT
