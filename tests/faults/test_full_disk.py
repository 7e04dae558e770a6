"""A disk that is full, or read-only: one line, what is done is kept, and the run can go on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from lcam_cli.images.own_outputs import MARK
from tests.faults.many import Commands, Ended
from tests.faults.processes import NETWORK, OWN
from tests.tiny import write_pictures

PICTURES = 160
EXPLAIN = ["explain", "photos", *NETWORK, "--method", "gradcam", "--batch-size", "8"]
MISSING = re.compile(
    r"No space left on device: (up to|at least) ([\d.]+) (bytes|kB) more is needed, "
    r"([\d.]+) (bytes|kB) is free on that disk"
)
Disk = Callable[[str], Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    write_pictures(tmp_path / "photos", PICTURES)
    return tmp_path


def said_in_two_lines(ended: Ended) -> None:
    assert ended.code == 2, ended.err
    at = ended.err.index("error: ")
    lines = ended.err[at:].splitlines()
    assert len(lines) == 2, ended.err
    assert MISSING.search(lines[0]), ended.err
    assert "--resume" in lines[1]


def test_hdf5(folder: Path, lcam: Commands, disk: Disk) -> None:
    out = disk("size=300k") / "maps.h5"
    said_in_two_lines(lcam(folder, [*EXPLAIN, "--out", str(out)]))
    with h5py.File(out) as file:
        rows = len(file["saliency"])
        assert 0 < rows < PICTURES
        assert rows % 8 == 0, "whole batches"
        kept = file["saliency"][:]
    again = lcam(folder, [*EXPLAIN, "--out", str(out), "--resume"])
    said_in_two_lines(again)
    disk("size=4m")
    ended = lcam(folder, [*EXPLAIN, "--out", str(out), "--resume"])
    assert ended.code == 0, ended.err
    assert lcam(folder, [*EXPLAIN, "--out", "whole.h5"]).code == 0
    with h5py.File(out) as file, h5py.File(folder / "whole.h5") as whole:
        assert file.attrs["complete"]
        np.testing.assert_array_equal(file["saliency"][:rows], kept)
        for name in ("saliency", "path", "cam", "confidence"):
            np.testing.assert_array_equal(file[name][:], whole[name][:])


@pytest.mark.parametrize("kilobytes", range(4, 160, 12))
def test_no_room_for_the_file_itself(
    folder: Path, lcam: Commands, disk: Disk, kilobytes: int
) -> None:
    """HDF5 fails in other ways while a file is made than while it grows."""
    out = disk(f"size={kilobytes}k") / "maps.h5"
    said_in_two_lines(lcam(folder, [*EXPLAIN, "--out", str(out)]))


@pytest.mark.parametrize("where", ["--out", "--overlays"])
def test_pictures(folder: Path, lcam: Commands, disk: Disk, where: str) -> None:
    out = disk("size=500k") / "out"
    words = [*EXPLAIN, where, str(out)]
    said_in_two_lines(lcam(folder, words))
    found = sorted(out.rglob("*.png"))
    assert 0 < len(found) < PICTURES
    for path in found:
        with Image.open(path) as picture:
            picture.load()
    if where == "--out":
        lines = (out / "maps" / "maps.jsonl").read_text().splitlines()
        assert all((out / "maps" / json.loads(line)["file"]).exists() for line in lines)
    disk("size=4m")
    ended = lcam(folder, [*words, "--resume"])
    assert ended.code == 0, ended.err
    assert len(list(out.rglob("*.png"))) == PICTURES * (2 if where == "--out" else 1)
    assert {path.name for path in out.rglob(".*")} == {MARK}  # and nothing half written


@pytest.mark.parametrize("out", ["maps.h5", "pngs"])
def test_a_read_only_folder(folder: Path, lcam: Commands, disk: Disk, out: str) -> None:
    there = disk("ro,size=1m")
    ended = lcam(folder, [*EXPLAIN, "--out", str(there / out)])
    assert ended.code == 2
    assert "error: cannot write to " in ended.err
    assert "Read-only file system" in ended.err
    assert "Traceback" not in ended.err


def test_pictures_in_a_read_only_folder(folder: Path, lcam: Commands, disk: Disk) -> None:
    write_pictures(disk("size=1m"), 5)
    there = disk("ro,size=1m")
    assert lcam(folder, ["explain", str(there), *EXPLAIN[2:]]).code == 0
    assert lcam(folder, ["evaluate", "maps.h5", "--backbone", "own.py:net"]).code == 0
