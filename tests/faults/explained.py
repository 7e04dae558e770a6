"""``lcam explain`` on good images and on damaged ones: what becomes of each; its memory."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py

from tests.faults.damage import damaged
from tests.faults.many import Commands

_EXPLAIN = ["explain", "--backbone", "own.py:net", "--weights", "none", "--image-size", "32"]
_EXPLAIN += ["--method", "gradcam", "--overwrite", "--workers", "2", "--device", "cpu"]


@dataclass(frozen=True)
class Outcome:
    """Paths of the damaged images that were explained and those that were not, with reasons."""

    explained: list[str]
    listed: list[str]
    reasons: list[str]


def explain_damaged(
    folder: Path,
    lcam: Commands,
    blobs: Sequence[bytes],
    count: int,
    size: tuple[int, int],
    extension: Callable[[random.Random], str],
) -> Outcome:
    """Explain as many damaged images as good ones, and check what holds for all kinds of them.

    Args:
        folder: With ``own.py``.
        lcam: Runs it.
        blobs: Good files.
        count: How many files of each.
        size: What damage that lies about sizes looks for.
        extension: Of the next name, which says nothing about what is in a file.
    """
    rng = random.Random(0)
    for kind in ("good", "bad"):
        (folder / kind).mkdir()
    for k in range(count):
        name = f"{k:04}{extension(rng)}"
        (folder / "good" / name).write_bytes(blobs[k % len(blobs)])
        (folder / "bad" / name).write_bytes(damaged(rng, blobs, size))
    good = lcam(folder, [*_EXPLAIN, "good", "--out", "good.h5"])
    assert good.code == 0, good.err
    bad = lcam(folder, [*_EXPLAIN, "bad", "--out", "bad.h5"])
    assert bad.code == 3, bad.err
    with h5py.File(folder / "bad.h5") as file:
        names = ("path", "skipped/path", "skipped/reason")
        found = Outcome(*([one.decode() for one in file[name][:]] for name in names))
        assert file.attrs["complete"]
    kinds, ratio = len(set(found.reasons)), bad.memory / good.memory
    print(f"{len(found.explained)} explained, {len(found.listed)} listed with {kinds} reasons;")
    print(f"at most {bad.memory} KiB, {good.memory} with good images ({ratio:.2f})")
    assert all(0 < len(reason) < 140 and "\n" not in reason for reason in found.reasons)
    assert not any("hung" in reason or "internal" in reason for reason in found.reasons)
    assert min(len(found.explained), len(found.listed)) > count / 10
    assert ratio < 1.5
    return found
