"""``--boxes`` and ``--masks`` of compare and evaluate, on the tiny network."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli import job
from tests.cli.job import Lcam

OWN = """
from tests.tiny import tiny_network
def net():
    return tiny_network()
"""
SETTINGS = '[compare]\nbackbone = "own.py:net"\nimage-size = 32\nbatch-size = 4\n'
COMPARE = ("compare", "photos", "--methods", "gradcam", "--metrics", "energy", "--boxes", "b.csv")
# The network sees the middle of an image alone.
OUTSIDE = (
    "no object is in the part of the image that the network sees, so the image is skipped: 2 images"
)

lcam = job.lcam


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    job.begin(tmp_path, monkeypatch, OWN, 6)
    (tmp_path / "lcam.toml").write_text(SETTINGS)
    lines = [f"{k:03}.jpg,{edges}" for k, edges in enumerate(["0,0,3,1", "5,5,40,30"] * 2)]
    (tmp_path / "b.csv").write_text("\n".join(lines))
    return tmp_path


def test_what_was_found_of_objects_is_said_again_on_resume(folder: Path, lcam: Lcam) -> None:
    once = lcam(*COMPARE)
    assert once.code == 0
    assert f"b.csv: {OUTSIDE}, e.g. photos/000.jpg" in once.err
    assert (
        "energy: 4 maps skipped because no object is known in the part that the network sees"
        in once.err
    )
    again = lcam(*COMPARE, "--resume")
    assert "reused from an earlier run: gradcam, random" in again.err
    assert f"b.csv: {OUTSIDE}, e.g. photos/000.jpg" in again.err
