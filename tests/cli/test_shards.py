"""``--shard i/n`` and ``lcam merge``: together they write what one run writes."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from lcam_cli.__main__ import run
from lcam_cli.cli.app import lcam_app
from lcam_cli.maps.hdf5.reader import MapsFile
from tests.tiny import write_pictures

OWN = "from tests.tiny import tiny_network as net\n"
NETWORK = ["--backbone", "own.py:net", "--weights", "none", "--image-size", "32"]
EXPLAIN = ["explain", "photos", *NETWORK, "--method", "gradcam", "--batch-size", "4"]
BAD = "007-bad.jpg"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """22 images, one of them unreadable: six batches, the last of two."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    write_pictures(tmp_path / "photos", 21)
    (tmp_path / "photos" / BAD).write_text("no picture")
    return tmp_path


def lcam(*words: str) -> int:
    return run(lcam_app(), list(words))


def contents(path: Path) -> dict[str, object]:
    with MapsFile(path) as maps, h5py.File(path, locking=False) as file:
        assert maps.complete
        found: dict[str, object] = {"skipped": maps.skipped, "size": maps.size}
        found |= {k: v for k, v in file.attrs.items() if k not in ("created", "file_id")}
        found |= {name: file[name][:].tolist() for name in file if name != "skipped"}
        return found


@pytest.mark.parametrize("count", [1, 3, 9])
def test_merged_shards_are_one_run(folder: Path, count: int) -> None:
    more = ["--top-k", "2"] if count == 3 else []
    assert lcam(*EXPLAIN, *more, "--out", "whole.h5") == 3
    files = [f"maps.{i}-of-{count}.h5" for i in range(count)]
    for i in reversed(range(count)):
        code = lcam(*EXPLAIN, *more, "--shard", f"{i}/{count}")
        with MapsFile(folder / files[i]) as shard:
            assert code == (3 if shard.skipped else 0)
    assert lcam("merge", "merged.h5", *reversed(files)) == 0
    assert contents(folder / "merged.h5") == contents(folder / "whole.h5")


def test_a_shard_is_resumed_and_locked_as_any_run(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [*EXPLAIN, "--shard", "1/2"]
    assert lcam(*words) == 0
    assert lcam(*words) == 2
    assert "maps.1-of-2.h5 exists" in capfd.readouterr().err
    assert lcam(*words, "--resume") == 0
    assert "already complete" in capfd.readouterr().err
    # The same file for another part of the images.
    (folder / "maps.1-of-2.h5").rename(folder / "maps.0-of-2.h5")
    assert lcam(*EXPLAIN, "--shard", "0/2", "--resume") == 2
    assert "images 12 to 22 of 22" in capfd.readouterr().err


def test_what_is_no_whole_run_is_not_merged(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for i in range(3):
        lcam(*EXPLAIN, "--shard", f"{i}/3")
    lcam(*EXPLAIN, "--shard", "0/3", "--out", "other.h5", "--fit", "squash")
    lcam(*EXPLAIN, "--shard", "0/3", "--out", "top.h5", "--top-k", "2")
    lcam(*EXPLAIN, "--out", "whole.h5")
    first, second, third = (f"maps.{i}-of-3.h5" for i in range(3))
    capfd.readouterr()

    def refused(*files: str) -> str:
        assert lcam("merge", "merged.h5", *files) == 2
        assert not (folder / "merged.h5").exists()
        return capfd.readouterr().err

    assert "maps.1-of-3.h5 is missing: images 8 to 16" in refused(first, third)
    assert "maps.2-of-3.h5 is missing: images 16 to 22" in refused(first, second)
    assert "maps.0-of-3.h5 is missing" in refused(second, third)
    assert "no maps file absent.h5" in refused(first, "absent.h5")
    assert f"{first} has images that are also in {first}" in refused(first, second, third, first)
    assert f"{second} is from another run than other.0-of-3.h5: preprocess" in refused(
        "other.0-of-3.h5", second, third
    )
    assert "they explain the predicted class, these the 2 classes with highest scores" in refused(
        "top.0-of-3.h5", second, third
    )
    assert "whole.h5 is not a shard" in refused(first, second, "whole.h5")
    with h5py.File(folder / second, "r+") as file:
        file.attrs.modify("complete", np.bool_(False))
    assert f"{second} is incomplete" in refused(first, second, third)
    with h5py.File(folder / second, "r+") as file:
        file.attrs.modify("complete", np.bool_(True))
        file.attrs["shard"] = '{"first": 8}'
    assert f"{second}: attribute shard" in refused(first, second, third)
    Path("merged.h5").write_text("mine")
    assert lcam("merge", "merged.h5", first, third) == 2
    assert Path("merged.h5").read_text() == "mine"


def test_overlays_of_shards_share_a_folder_and_pngs_do_not(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for i in range(2):
        lcam(*EXPLAIN, "--shard", f"{i}/2", "--overlays", "drawn")
    assert len(list((folder / "drawn").glob("*.png"))) == 21
    assert lcam(*EXPLAIN, "--shard", "0/2", "--out", "pngs") == 2
    assert "pngs is a folder" in capfd.readouterr().err
    for shard in ("2/2", "x"):
        assert lcam(*EXPLAIN, "--shard", shard) == 2
        assert "is not a shard" in capfd.readouterr().err
