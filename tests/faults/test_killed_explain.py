"""``kill -9`` of ``lcam explain`` at random moments, resumed until done."""

from __future__ import annotations

import json
import random
import re
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from lcam_cli.images.own_outputs import MARK
from tests.faults.counts import count
from tests.faults.many import Commands
from tests.faults.processes import NETWORK, OWN, start, wait_for
from tests.tiny import write_pictures

PICTURES, UNREADABLE = count(200, 500), 12
EXPLAIN = ["explain", "photos", *NETWORK, "--method", "gradcam", "--batch-size", "4"]
SOME_SKIPPED = 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    write_pictures(tmp_path / "photos", PICTURES - UNREADABLE)
    rng = random.Random(0)
    for i in range(UNREADABLE):
        # Among them the first and the last, and several side by side.
        number = rng.choice([0, 100, PICTURES - UNREADABLE])
        (tmp_path / "photos" / f"{number:03}-{i}.jpg").write_text("no picture")
    return tmp_path


def kill_until_done(
    folder: Path,
    words: Sequence[str],
    kills: int,
    check: Callable[[str], None],
    module: str = "lcam_cli",
) -> int:
    """Start a run and kill it, again and again; in the end let it finish.

    Args:
        folder: Where it runs.
        words: The command.
        kills: How often it may be killed.
        check: Called with what the run said after every kill.
        module: What is run.

    Returns:
        How often it was killed.
    """
    rng = random.Random()
    killed = 0
    while True:
        process = start(folder, [*words, "--resume"], module)
        said = ""
        if killed < kills:
            if rng.random() < 0.9:  # most of the time before is the import of torch
                said = wait_for(process, "explaining", "already complete")
            time.sleep(rng.uniform(0, 0.6))
            if process.poll() is None:
                process.kill()
                killed += 1
        _, rest = process.communicate()
        rest = said + rest
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == SOME_SKIPPED, rest
            return killed
        check(rest)


@pytest.mark.slow
def test_hdf5(folder: Path, lcam: Commands) -> None:
    ended = lcam(folder, [*EXPLAIN, "--out", "whole.h5"])
    assert ended.code == SOME_SKIPPED, ended.err
    with h5py.File(folder / "whole.h5") as file:
        whole = {name: file[name][:] for name in (*_rows(file), "skipped/path", "skipped/reason")}
    assert len(whole["path"]) == PICTURES - UNREADABLE
    assert len(whole["skipped/path"]) == UNREADABLE
    wanted = count(3, 50)
    killed = runs = opened = told = 0
    out = folder / "maps.h5"

    def check(said: str) -> None:
        nonlocal opened, told
        sure = max((int(rows) for rows in re.findall(r"^flushed (\d+)$", said, re.M)), default=0)
        if not out.exists():
            assert sure == 0
            return
        opened += 1
        told = max(told, sure)
        with h5py.File(out) as file:
            rows = min(len(file[name]) for name in _rows(file))
            # It may be killed after its end, too.
            assert not file.attrs["complete"] or rows == PICTURES - UNREADABLE
            assert rows >= told, "a row was lost after its flush"
            for name in _rows(file):
                np.testing.assert_array_equal(file[name][:rows], whole[name][:rows], name)

    while killed < wanted:
        runs, told = runs + 1, 0
        out.unlink(missing_ok=True)
        killed += kill_until_done(
            folder,
            [*EXPLAIN, "--out", out.name],
            wanted - killed,
            check,
            module="tests.faults.flushing",
        )
        with h5py.File(out) as file:
            assert file.attrs["complete"]
            for name, values in whole.items():
                np.testing.assert_array_equal(file[name][:], values, name)
    print(f"{killed} kills over {runs} runs; a file was there after {opened} of them")


def _rows(file: h5py.File) -> list[str]:
    return [name for name in file if name not in ("skipped", "classes")]


@pytest.mark.slow
def test_png(folder: Path, lcam: Commands) -> None:
    ended = lcam(folder, [*EXPLAIN, "--out", "whole"])
    assert ended.code == SOME_SKIPPED, ended.err
    names = {p.relative_to(folder / "whole") for p in (folder / "whole").rglob("*.png")}
    assert len(names) == 2 * (PICTURES - UNREADABLE), "a map and an overlay each"
    wanted = count(2, 20)
    killed = runs = 0
    pictures: list[int] = []
    out = folder / "out0"

    def check(_said: str) -> None:
        found = [path for path in out.rglob("*.png") if not path.name.startswith(".")]
        pictures.append(len(found))
        for path in found:
            with Image.open(path) as picture:
                picture.load()  # raises where it is cut
        index = out / "maps" / "maps.jsonl"
        lines = index.read_bytes().splitlines(keepends=True) if index.exists() else []
        for line in lines:
            if line.endswith(b"\n"):
                assert (out / "maps" / json.loads(line)["file"]).exists()

    while killed < wanted:
        runs += 1
        out = folder / f"out{runs}"
        killed += kill_until_done(folder, [*EXPLAIN, "--out", out.name], wanted - killed, check)
        assert {p.relative_to(out) for p in out.rglob("*.png")} == names
        for name in [*names, "maps/maps.jsonl", "maps/skipped.jsonl"]:
            assert (out / name).read_bytes() == (folder / "whole" / name).read_bytes()
        left = [path for path in out.rglob(".*") if path.name != MARK]
        assert not left, "nothing is left under temporary names"
    print(f"{killed} kills over {runs} runs; images whole after each: {pictures}")
