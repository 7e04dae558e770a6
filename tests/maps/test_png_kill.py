"""A folder of PNG, killed at every point where something reaches the disk."""

from __future__ import annotations

import dataclasses
import itertools
import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from lcam_cli.maps.png import PngWriter
from tests.maps.making import INFO, make_batch

KILLED = 9


def first_run(folder: Path) -> None:
    with PngWriter(folder, INFO) as out:
        out.append(make_batch(0, 2, skipped=1))
        out.append(make_batch(2, 2, skipped=2))
        out.finish()


def again(folder: Path) -> None:
    with PngWriter(folder, dataclasses.replace(INFO, method="rise"), overwrite=True) as out:
        out.append(make_batch(7, 2))


def dropping(folder: Path) -> None:
    with PngWriter(folder, INFO, resume=True) as out:
        out.truncate(1, 0)


def killed_at(step: int, run: Callable[[Path], None], folder: Path) -> bool:
    """Run in a process that dies, without any cleaning up, at its ``step``-th sync or rename."""

    def child() -> None:
        count = itertools.count()

        def dying(call: Callable[..., object]) -> Callable[..., object]:
            def called(*args: object, **named: object) -> object:
                if next(count) == step:
                    os._exit(KILLED)
                return call(*args, **named)

            return called

        os.fsync = dying(os.fsync)  # type: ignore[assignment]
        Path.replace = dying(Path.replace)  # type: ignore[assignment, method-assign]
        Path.unlink = dying(Path.unlink)  # type: ignore[assignment, method-assign]
        run(folder)
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(30)
    assert process.exitcode in {0, KILLED}
    return process.exitcode == KILLED


def check(folder: Path) -> int:
    """Every image is whole, and every line has its image; return the number of lines."""
    for path in folder.rglob("*.png"):
        if not path.name.startswith("."):
            with Image.open(path) as picture:
                picture.load()
    index = folder / "maps.jsonl"
    rows = [json.loads(line) for line in index.read_bytes().splitlines()] if index.exists() else []
    for row in rows:
        want = make_batch(row["class_index"], 1).saliency[0]
        with Image.open(folder / row["file"]) as picture:
            np.testing.assert_allclose(np.asarray(picture) / 255, want, atol=0.5 / 255 + 1e-6)
    return len(rows)


def test_first_run(tmp_path: Path) -> None:
    lines = set()
    for step in itertools.count():
        folder = tmp_path / str(step)
        if not killed_at(step, first_run, folder):
            break
        lines.add(check(folder))
        if (folder / "info.json").exists():
            # Nothing is skipped over: what is recorded is a beginning of the whole.
            with PngWriter(folder, INFO, resume=True) as out:
                assert out.paths == make_batch(0, out.rows).paths
                assert not out.complete or out.rows == 4
            assert not list(folder.rglob(".*")), "leftovers go"
    assert step > 20
    assert lines == {0, 2, 4}


def test_dropping_rows(tmp_path: Path) -> None:
    lines = set()
    for step in itertools.count():
        folder = tmp_path / str(step)
        first_run(folder)
        killed = killed_at(step, dropping, folder)
        lines.add(check(folder))
        if not killed:
            break
    assert lines == {1, 4}


def test_overwriting(tmp_path: Path) -> None:
    """Maps of the old run are never taken for the new one's, and the old ones can be removed."""
    for step in itertools.count():
        folder = tmp_path / str(step)
        first_run(folder)
        killed = killed_at(step, again, folder)
        if (folder / "info.json").exists():
            info = json.loads((folder / "info.json").read_bytes())
            rows = check(folder)
            assert (info["method"], rows) in {("lcam-img", 4), ("rise", 0), ("rise", 2)}
        again(folder)
        assert check(folder) == 2
        assert len(list(folder.rglob("*.png"))) == 2
        if not killed:
            break
    assert step > 15
