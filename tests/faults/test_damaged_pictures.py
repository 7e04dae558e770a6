"""Damaged images: each is explained or listed with a reason, and memory stays bounded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.counts import count
from tests.faults.damage import SIZE, seed_pictures
from tests.faults.explained import explain_damaged
from tests.faults.many import Commands

COUNT = count(150, 2000)
OWN = "from tests.tiny import tiny_network as net\n"


def _photo() -> Path | None:
    """A real photograph, where there are some."""
    folder = Path(os.environ.get("LCAM_REAL", Path(__file__).parents[3] / "shared" / "real"))
    return next(iter(sorted((folder / "photos").glob("*.JPEG"))), None)


@pytest.mark.slow
def test_damaged_pictures_are_explained_or_listed(tmp_path: Path, lcam: Commands) -> None:
    (tmp_path / "own.py").write_text(OWN)
    found = explain_damaged(
        *(tmp_path, lcam, seed_pictures(_photo()), COUNT, SIZE),
        lambda rng: f".{rng.choice(('jpg', 'png', 'tif', 'webp'))}",
    )
    names = sorted(p.name for p in (tmp_path / "bad").iterdir())
    assert sorted(found.explained + found.listed) == names
    assert found.explained == sorted(found.explained)
