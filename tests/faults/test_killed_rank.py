"""``kill -9`` of one rank of several at random moments, resumed by as many ranks or by others."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from lcam_cli.maps.hdf5.reader import MapsFile
from tests.faults.counts import count
from tests.faults.many import Commands
from tests.faults.processes import NETWORK, OWN, start
from tests.scale.starting import ranks_of, torchrun
from tests.tiny import write_pictures

KILLS = count(2, 10)
PICTURES = 400
BATCH = 4
MINUTE = 60.0
SOME_SKIPPED = 3
EXPLAIN = ["explain", "photos", *NETWORK, "--method", "gradcam", "--batch-size", str(BATCH)]
FLUSHING = "tests.faults.flushing"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    write_pictures(tmp_path / "photos", PICTURES)
    for name in ("000-bad.jpg", "100-bad.jpg", "101-bad.jpg", "399-bad.jpg"):
        (tmp_path / "photos" / name).write_text("no picture")
    return tmp_path


def flushed(shards: list[Path]) -> dict[str, int]:
    """The rows that are sure to be kept, by shard."""
    found = {}
    for shard in shards:
        with h5py.File(shard, locking=False) as file:
            found[shard.name] = min(len(file[name]) for name in file if name != "skipped")
    return found


@pytest.mark.slow
def test_killed_ranks_lose_nothing_and_make_nothing_twice(folder: Path, lcam: Commands) -> None:
    ended = lcam(folder, [*EXPLAIN, "--out", "whole.h5"])
    assert ended.code == SOME_SKIPPED, ended.err
    rng = random.Random()
    longest, kept_rows, at_work, begin = 0.0, 0, 0, rng.randrange(3)
    for kill in range(KILLS):
        out = folder / f"maps{kill}.h5"
        words = [*EXPLAIN, "--out", out.name]
        agent = torchrun(folder, words, 2, FLUSHING)
        while len(ranks := ranks_of(agent)) < 2:
            time.sleep(0.02)
        if rng.random() < 0.9:  # most of the time before is the import of torch
            while len(list(folder.glob(f"{out.stem}.from-*.h5"))) < 2 and agent.poll() is None:
                time.sleep(0.02)
        time.sleep(rng.uniform(0, 1.5))
        victim = rng.randrange(2)
        try:
            os.kill(ranks[victim], signal.SIGKILL)
        except ProcessLookupError:
            ranks = []  # it had come to its end
        began = time.monotonic()
        _, err = agent.communicate(timeout=2 * MINUTE)
        if ranks and agent.returncode and "maps in" not in err:
            longest = max(longest, time.monotonic() - began)
            assert longest < MINUTE
            assert f"rank {victim}" in err or f"rank      : {victim}" in err, err
        shards = list(folder.glob(f"{out.stem}.from-*.h5"))
        before = flushed(shards)
        kept_rows += sum(before.values())
        at_work += bool(before) and not out.exists()
        by = (begin + kill) % 3 + 1
        again = [*words, "--resume"]
        process = start(folder, again) if by == 1 else torchrun(folder, again, by)
        _, err = process.communicate()
        with MapsFile(out) as maps, MapsFile(folder / "whole.h5") as whole:
            assert maps.complete, err
            assert maps.paths() == whole.paths()
            assert maps.skipped == whole.skipped
            ours, theirs = maps.rows(0, len(maps)), whole.rows(0, len(whole))
            np.testing.assert_array_equal(ours.saliency, theirs.saliency)
            np.testing.assert_array_equal(ours.confidence, theirs.confidence)
            used = {path.name: last - first + 1 for path, first, last in maps.shards}
        for name, rows in before.items():
            assert used.get(name, 0) > rows - BATCH, "what was flushed was made again"
    print(
        f"{KILLS} kills, {at_work} while maps were made, resumed by {begin + 1} processes and so "
        f"on: the other rank ended within {longest:.1f} s; {kept_rows} rows were kept"
    )
