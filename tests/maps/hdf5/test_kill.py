"""A run that dies leaves a file that opens, with every row up to the last flush."""

from __future__ import annotations

import dataclasses
import errno
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest

from lcam_cli.errors import LcamError
from lcam_cli.maps.hdf5.reader import MapsFile
from tests.conftest import ROOT
from tests.maps.hdf5.test_hdf5 import assert_same
from tests.maps.making import CAPACITY, make_batch, writer

BATCH = 5
MANY = dataclasses.replace(CAPACITY, rows=40_000, skipped=40_000)
SECTOR = 512


def sectors(before: bytes, after: bytes) -> list[int]:
    assert len(before) == len(after)
    starts = range(0, len(before), SECTOR)
    return [at for at in starts if before[at : at + SECTOR] != after[at : at + SECTOR]]


@pytest.mark.parametrize("step", ["flush", "truncate", "finish"])
def test_no_write_of_a_commit_can_be_missed(tmp_path: Path, step: str) -> None:
    """Whichever of the sectors that a commit changes reach the disk, the file holds its rows."""
    path = tmp_path / "maps.h5"
    with writer(path) as out:
        out.append(make_batch(0, 3, skipped=1))
        out.flush()
        if step == "flush":
            out.append(make_batch(3, 4, skipped=2))
        before = path.read_bytes()
        {"flush": out.flush, "truncate": lambda: out.truncate(2, 0), "finish": out.finish}[step]()
        after = path.read_bytes()
    changed = sectors(before, after)
    assert len(changed) >= 1
    rng = random.Random(0)
    subsets = [changed[:n] for n in range(len(changed) + 1)]
    subsets += [changed[n:] for n in range(len(changed) + 1)] + [[at] for at in changed]
    subsets += [rng.sample(changed, rng.randint(0, len(changed))) for _ in range(40)]
    sure = 2 if step == "truncate" else 3
    torn = tmp_path / "torn.h5"
    for subset in subsets:
        mixed = bytearray(before)
        for at in subset:
            mixed[at : at + SECTOR] = after[at : at + SECTOR]
        torn.write_bytes(mixed)
        with MapsFile(torn) as maps:
            assert len(maps) in {2, 3, 7}
            assert len(maps) >= sure
            assert_same(maps.rows(0, sure), make_batch(0, sure))
            assert maps.complete <= (step == "finish")


def test_object_headers_lie_in_one_sector_each(tmp_path: Path) -> None:
    with writer(tmp_path / "maps.h5") as out:
        out.append(make_batch(0, 1))
    with h5py.File(tmp_path / "maps.h5") as file:
        data = [file[name] for name in file if name != "skipped"]
        for dataset in [*data, *file["skipped"].values()]:
            header = h5py.h5o.get_info(dataset.id)
            assert header.addr % SECTOR == 0
            assert header.hdr.space.total <= SECTOR


def test_reserved_rows_take_no_disk(tmp_path: Path) -> None:
    capacity = dataclasses.replace(CAPACITY, rows=1_000_000)
    with writer(tmp_path / "maps.h5", capacity=capacity) as out:
        out.append(make_batch(0, 10))
    assert (tmp_path / "maps.h5").stat().st_blocks * 512 < 200_000


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path: Path) -> None:
    """``LCAM_KILLS`` sets how often the writer is killed (20)."""
    path = tmp_path / "maps.h5"
    rng = random.Random()
    rows = 0
    for _ in range(int(os.environ.get("LCAM_KILLS", "20"))):
        if rows > MANY.rows // 2:
            path.unlink()
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.maps.hdf5.killed_writer", str(path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.3))
        process.kill()
        told = [int(line) for line in process.stdout.read().splitlines()]
        process.wait()
        process.stdout.close()
        if not path.exists():
            assert not told
            rows = 0
            continue
        # Plainly, as anyone would; and then as we do, and with every value.
        with h5py.File(path) as file:
            assert len(file["saliency"]) >= max(told, default=0)
        with MapsFile(path) as maps:
            rows = len(maps)
            assert rows >= max(told, default=0)
            assert rows % BATCH == 0
            want = make_batch(0, rows)
            assert_same(maps.rows(0, rows), want)
            assert len(maps.skipped) >= max(told, default=0) // BATCH


def test_rows_that_a_sync_lost_are_never_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "maps.h5"
    fsync = os.fsync

    def lost_once(_descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", fsync)
        raise OSError(errno.EIO, "lost")

    with writer(path) as out:
        out.append(make_batch(0, 3))
        out.flush()
        out.append(make_batch(3, 3))
        monkeypatch.setattr(os, "fsync", lost_once)
        with pytest.raises(LcamError, match="cannot write"):
            out.flush()
    assert len(MapsFile(path)) == 3


@pytest.mark.slow
def test_full_disk_keeps_what_was_flushed(tmp_path: Path) -> None:
    """A limit on the file's size stands in for the disk's end."""
    code = """
import resource, signal, sys
from pathlib import Path
from lcam_cli.errors import LcamError
from tests.maps.making import make_batch, writer
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
try:
    with writer(path) as out:
        out.append(make_batch(0, 3))
        out.flush()
        size = path.stat().st_size - 62 * 6 * 5 * 4
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        out.append(make_batch(3, 3))
except LcamError as error:
    print(error.what)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "maps.h5")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cannot write" in done.stdout
    with MapsFile(tmp_path / "maps.h5") as maps:
        assert_same(maps.rows(0, 3), make_batch(0, 3))
