"""Damaged pictures: each is explained or listed with a reason, and memory stays bounded."""

from __future__ import annotations

import os
import random
from pathlib import Path

import h5py
import pytest

from tests.faults.counts import count
from tests.faults.damage import SIZE, damaged, seed_pictures
from tests.faults.many import Commands

COUNT = count(150, 2000)
OWN = "from tests.tiny import tiny_network as net\n"
EXPLAIN = ["explain", "--backbone", "own.py:net", "--weights", "none", "--image-size", "32"]
EXPLAIN += ["--method", "gradcam", "--overwrite", "--workers", "2", "--device", "cpu"]


def _photo() -> Path | None:
    """A real photograph, where there are some."""
    folder = Path(os.environ.get("LCAM_REAL", Path(__file__).parents[3] / "shared" / "real"))
    return next(iter(sorted((folder / "photos").glob("*.JPEG"))), None)


@pytest.mark.slow
def test_damaged_pictures_are_explained_or_listed(tmp_path: Path, lcam: Commands) -> None:
    (tmp_path / "own.py").write_text(OWN)
    blobs = seed_pictures(_photo())
    rng = random.Random(0)
    for folder in ("good", "bad"):
        (tmp_path / folder).mkdir()
    for k in range(COUNT):
        # Names say nothing about what is in a file: the extension is as wrong as the rest.
        name = f"{k:04}.{rng.choice(('jpg', 'png', 'tif', 'webp'))}"
        (tmp_path / "good" / name).write_bytes(blobs[k % len(blobs)])
        (tmp_path / "bad" / name).write_bytes(damaged(rng, blobs, SIZE))
    good = lcam(tmp_path, [*EXPLAIN, "good", "--out", "good.h5"])
    assert good.code == 0, good.err
    bad = lcam(tmp_path, [*EXPLAIN, "bad", "--out", "bad.h5"])
    assert bad.code == 3, bad.err
    with h5py.File(tmp_path / "bad.h5") as file:
        explained = [path.decode() for path in file["path"][:]]
        listed = [path.decode() for path in file["skipped/path"][:]]
        reasons = [reason.decode() for reason in file["skipped/reason"][:]]
        assert file.attrs["complete"]
    print(f"{len(explained)} explained, {len(listed)} listed with {len(set(reasons))} reasons; at")
    print(
        f"most {bad.memory} KiB, {good.memory} with good pictures ({bad.memory / good.memory:.2f})"
    )
    assert sorted(explained + listed) == sorted(p.name for p in (tmp_path / "bad").iterdir())
    assert explained == sorted(explained)
    assert all(0 < len(reason) < 100 and "\n" not in reason for reason in reasons)
    assert not any("hung" in reason for reason in reasons)
    assert len(explained) > COUNT / 10
    assert len(listed) > COUNT / 10
    assert bad.memory < 1.5 * good.memory
