"""``lcam clean`` and the limit of what comparisons keep: nothing that is not theirs ever goes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lcam_cli.locks import lock_folder
from lcam_cli.measures.kept_comparisons import beyond, kept_comparisons
from tests.cli import job
from tests.cli.job import Lcam

OWN = """
from tests.tiny import tiny_network
def net():
    return tiny_network()
"""
SETTINGS = '[compare]\nbackbone = "own.py:net"\nimage-size = 32\n'
STATE = Path("runs/compare")

lcam = job.lcam


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    job.begin(tmp_path, monkeypatch, OWN, 3)
    (tmp_path / "lcam.toml").write_text(SETTINGS)
    return tmp_path


def keep(name: str, size: int, days: int, *others: str) -> Path:
    """A comparison's folder of a size in bytes, written some days ago."""
    folder = STATE / name
    folder.mkdir(parents=True)
    for file in (f"{name}.0-3.npz", f"{name}.h5", *others):
        (folder / file).write_bytes(b"x" * (size // 2))
        at = (folder / file).stat().st_mtime - 86400 * days
        os.utime(folder / file, (at, at))
    return folder


A, B, C = (16 * letter for letter in "abc")


def test_without_yes_nothing_goes(folder: Path, lcam: Lcam) -> None:
    for name, days in ((A, 1), (B, 3)):
        keep(name, 4000, days)
    done = lcam("clean")
    assert done.code == 0
    assert f"4.0 kB  1 day old  runs/compare/{A}" in done.out
    assert "2 comparisons, 8.0 kB would be deleted from runs/compare" in done.out
    assert "add --yes" in done.err
    assert len(list(STATE.iterdir())) == 2
    done = lcam("clean", "--yes")
    assert "2 comparisons, 8.0 kB deleted from runs/compare" in done.out
    assert list(STATE.iterdir()) == []
    assert "nothing to delete in runs/compare" in lcam("clean", "--yes").out
    assert "nothing to delete in nowhere" in lcam("clean", "--state", "nowhere", "--yes").out


def test_the_last_written_are_kept(folder: Path, lcam: Lcam) -> None:
    for name, days in ((A, 5), (B, 1), (C, 3)):
        keep(name, 4000, days)
    assert lcam("clean", "--keep", "0.0000085", "--yes").code == 0
    assert sorted(path.name for path in STATE.iterdir()) == [B, C]


def test_what_comparisons_did_not_make_stays(folder: Path, lcam: Lcam) -> None:
    keep(A, 4000, 1, "notes.txt")
    keep(B, 4000, 1).rename(STATE / "mine")
    outside = folder / "outside"
    outside.mkdir()
    (outside / f"{B}.h5").write_text("mine")
    (STATE / B).symlink_to(outside)
    (STATE / C).mkdir()
    (STATE / C / f"{C}.h5").symlink_to(outside / f"{B}.h5")
    before = sorted(folder.rglob("*"))
    done = lcam("clean", "--yes")
    assert "nothing to delete" in done.out
    for name in (A, B, C, "mine"):
        assert f"runs/compare/{name} stays" in done.err
    assert sorted(folder.rglob("*")) == before


def test_a_comparison_at_work_stays(folder: Path, lcam: Lcam) -> None:
    kept = keep(A, 4000, 1)
    with lock_folder(kept):
        done = lcam("clean", "--yes")
        assert f"{kept} stays: a comparison is at work there" in done.err
    assert (kept / f"{A}.h5").exists()
    assert "1 comparison" in lcam("clean", "--yes").out
    assert not kept.exists()


def test_a_real_comparison_is_known_and_goes(folder: Path, lcam: Lcam) -> None:
    words = ("compare", "photos", "--methods", "gradcam", "--no-floor")
    assert lcam(*words).code == 0
    ((kept,), others) = kept_comparisons(STATE)
    assert (kept.size > 0, others) == (True, [])
    assert lcam("clean", "--yes").code == 0
    assert not kept.folder.exists()
    assert lcam(*words).code == 0


def test_compare_keeps_to_its_limit(folder: Path, lcam: Lcam) -> None:
    words = ("compare", "photos", "--methods", "gradcam", "--no-floor")
    keep(A, 4000, 2)
    keep(B, 400_000, 1, "notes.txt")
    assert lcam(*words).code == 0
    assert (STATE / A).exists(), "far below the default"
    done = lcam(*words, "--state-limit", "0")
    assert done.code == 0, done.err
    assert "removed what 1 earlier comparison had kept in runs/compare" in done.err
    assert not (STATE / A).exists()
    assert (STATE / B).exists(), "something of the user's lies there"
    (own,) = kept_comparisons(STATE)[0]
    assert own.folder.exists(), "what has just been computed can be resumed"


def test_beyond_the_limit_are_the_first_written(folder: Path) -> None:
    for name, days in ((A, 1), (B, 2), (C, 3)):
        keep(name, 1000, days)
    kept, _ = kept_comparisons(STATE)
    assert [one.folder.name for one in kept] == [A, B, C]
    assert [one.folder.name for one in beyond(kept, 2000)] == [C]
    assert beyond(kept, 3000) == []
    assert beyond(kept, 0) == kept
