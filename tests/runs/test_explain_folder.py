"""``explain_folder`` does what ``lcam explain`` does, told by callbacks."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import pytest

from lcam_cli import (
    BackboneOptions,
    EngineOptions,
    ExplainOptions,
    LcamError,
    OverlayOptions,
    PictureOptions,
    Progress,
    Reporter,
    explain_folder,
    merge_shards,
)
from tests.cli import job
from tests.cli.job import Lcam
from tests.conftest import ROOT

lcam = job.lcam

OPTIONS = ExplainOptions(
    method="gradcam",
    backbone=BackboneOptions("own.py:net", "none", image_size=32),
    engine=EngineOptions("cpu", batch_size=4, workers=1),
)
COMMAND = ["--method", "gradcam", "--backbone", "own.py:net", "--weights", "none"]
COMMAND += ["--image-size", "32", "--device", "cpu", "--batch-size", "4", "--workers", "1"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: ten images, and one that cannot be read."""
    job.begin(tmp_path, monkeypatch, "from tests.tiny import tiny_network as net\n", 10)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no picture")
    return tmp_path


def content(path: str) -> dict[str, object]:
    """What a maps file holds, but for when it was made and its number."""
    held: dict[str, object] = {}
    with h5py.File(path) as file:
        for name in [*file, *(f"skipped/{name}" for name in file["skipped"])]:
            if isinstance(file[name], h5py.Dataset):
                held[name] = file[name][()].tolist()
        for name in list(file.attrs):
            if name not in ("created", "file_id"):
                held[f"@{name}"] = str(file.attrs[name])
    return held


def after(batches: int) -> Callable[[], bool]:
    """Something to ask after every batch, which then stops the run."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == batches

    return stop


def test_the_files_are_those_of_the_command(lcam: Lcam) -> None:
    done = lcam("explain", "photos", *COMMAND, "--out", "typed.h5", "--overlays", "typed")
    assert done.code == 3
    options = replace(OPTIONS, overlays=OverlayOptions(Path("called")))
    result = explain_folder("photos", "called.h5", options)
    assert (result.rows, result.skipped, result.interrupted) == (10, 1, False)
    assert content("called.h5") == content("typed.h5")
    drawn = sorted(path.name for path in Path("typed").glob("*.png"))
    assert len(drawn) == 10
    for name in drawn:
        assert Path("called", name).read_bytes() == Path("typed", name).read_bytes()


def test_what_goes_on_is_told_by_callbacks(caplog: pytest.LogCaptureFixture) -> None:
    counts: list[Progress] = []
    warnings: list[str] = []
    lines: list[str] = []
    explain_folder(
        ["photos/000.jpg", Path("photos/broken.jpg")],
        options=replace(OPTIONS, align=False),
        reporter=Reporter(counts.append, warnings.append, lines.append),
    )
    assert [(one.done, one.total, one.unit) for one in counts][-1] == (2, 2, "images")
    assert any(line.startswith("skipped photos/broken.jpg: ") for line in warnings)
    assert "explaining 2 images with gradcam" in lines
    handlers, caplog.handler.records[:] = list(logging.getLogger("lcam").handlers), []
    explain_folder("photos/broken.jpg", "other.h5", OPTIONS)
    assert "skipped photos/broken.jpg" in caplog.text, "without a callback it is logged"
    assert logging.getLogger("lcam").handlers == handlers


@pytest.mark.parametrize("how", ["stop", "Ctrl-C"])
def test_what_is_done_is_saved_and_gone_on_with(how: str) -> None:
    asked = after(2)

    def stop() -> bool:
        if how == "stop":
            return asked()
        if asked():
            raise KeyboardInterrupt
        return False

    explain_folder("photos", "whole.h5", OPTIONS)
    if how == "stop":
        assert explain_folder("photos", options=OPTIONS, stop=stop).interrupted
    else:
        with pytest.raises(KeyboardInterrupt):
            explain_folder("photos", options=OPTIONS, stop=stop)
    with pytest.raises(LcamError, match=r"maps\.h5 exists"):
        explain_folder("photos", options=OPTIONS)
    counts: list[Progress] = []
    again = replace(OPTIONS, resume=True)
    result = explain_folder("photos", options=again, reporter=Reporter(counts.append))
    assert counts[0].done == 8, "two batches of four are not explained again"
    assert (result.rows, result.skipped, result.was_complete) == (10, 1, False)
    assert content("maps.h5") == content("whole.h5")
    assert explain_folder("photos", options=again).was_complete


def test_shards_and_samples() -> None:
    part = explain_folder("photos", "maps.h5", replace(OPTIONS, shard=(1, 2)))
    assert part.out == Path("maps.1-of-2.h5")
    explain_folder("photos", "maps.h5", replace(OPTIONS, shard=[0, 2]))
    parts = (f"maps.{i}-of-2.h5" for i in (0, 1))
    assert merge_shards("merged.h5", parts) == 10
    with pytest.raises(LcamError, match="no shards to merge"):
        merge_shards("other.h5", [])
    with pytest.raises(LcamError, match=r"^shards cannot be None"):
        merge_shards("other.h5", None)  # type: ignore[arg-type]
    some = replace(OPTIONS, pictures=PictureOptions(max_images=3))
    assert explain_folder("photos", "some.h5", some).rows <= 3
    strict = replace(OPTIONS, pictures=PictureOptions(strict=True))
    with pytest.raises(LcamError, match=r"broken\.jpg"):
        explain_folder("photos", "strict.h5", strict)
    with pytest.raises(LcamError, match="exclude each other"):
        ExplainOptions(resume=True, overwrite=True)


def test_options_are_made_without_torch() -> None:
    """Reading processes start before it is imported, which takes longer."""
    code = (
        "import sys, lcam_cli\n"
        "lcam_cli.ExplainOptions(), lcam_cli.TrainOptions(), lcam_cli.Reporter()\n"
        "lcam_cli.explain_folder, lcam_cli.train_attention\n"
        "import lcam_cli.cli.app\n"
        "assert not {'torch', 'numpy', 'h5py'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
