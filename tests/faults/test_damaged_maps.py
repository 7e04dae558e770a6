"""Damaged maps files: each is read or refused in a line, and no crash, hang or heap of memory."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from lcam_cli.maps.hdf5.reader import MapsFile
from tests.conftest import ROOT
from tests.faults.counts import count
from tests.faults.damage import damaged
from tests.maps.making import SIZE, make_batch, writer

COUNT = count(60, 500)


@pytest.fixture
def seeds(tmp_path: Path) -> list[bytes]:
    """Good files: ours, finished and not; another program's; and one joined from a shard."""
    finished, begun, other, joined = (
        tmp_path / f"{name}.h5" for name in ("finished", "begun", "other", "joined")
    )
    for path in (finished, begun):
        with writer(path) as out:
            out.append(make_batch(0, 4, skipped=2))
            if path is finished:
                out.finish()
    with h5py.File(finished) as old:
        with h5py.File(other, "w", libver="latest") as new:
            new.attrs.update(old.attrs)
            new.attrs["root"] = old.attrs["root"]  # of variable length
            for name in ("class_index", "predicted_index", "confidence", "crop_box", "saliency"):
                new.create_dataset(name, data=old[name][:], compression="gzip", shuffle=True)
            for name in ("path", "class_name", "skipped/path", "skipped/reason"):
                new.create_dataset(name, data=list(old[name]), dtype=h5py.string_dtype())
        with h5py.File(joined, "w") as new:
            new.attrs.update(old.attrs)
            for name in [*old, "skipped/path", "skipped/reason"]:
                if name == "skipped":
                    continue
                data = old[name]
                layout = h5py.VirtualLayout(data.shape, data.dtype)
                layout[:] = h5py.VirtualSource("finished.h5", name, data.shape)
                new.create_virtual_dataset(name, layout)
    for path in (finished, begun, other, joined):
        assert len(MapsFile(path)) == 4
    return [path.read_bytes() for path in (finished, begun, other, joined)]


@pytest.mark.slow
def test_damaged_files_are_read_or_refused(tmp_path: Path, seeds: list[bytes]) -> None:
    rng = random.Random(0)
    bad = [tmp_path / f"bad {k:04}.h5" for k in range(COUNT)]
    for path in bad:
        path.write_bytes(damaged(rng, seeds, SIZE))
    good = [tmp_path / "finished.h5"] * 20
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.maps_reader"],
        input="\n".join(map(str, good + bad)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    *ends, tried = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done
    assert not done.stderr
    wrong = [end["wrong"] for end in ends[len(good) :]]
    refused = [line for line in wrong if line]
    usual, most = ends[len(good) - 1]["memory"], ends[-1]["memory"]
    print(f"{COUNT - len(refused)} read, {len(refused)} refused; at most {most} KiB, {usual} with")
    print(f"good files ({most / usual:.2f}); {tried} in the process that tries files out, which")
    print(f"{sum('HDF5' in line and 'reading it' in line for line in refused)} files ended")
    assert all(len(line) < 1500 and "\n" not in line for line in refused)
    assert COUNT / 10 < len(refused) < COUNT
    assert max(most, tried) < 1.5 * usual
