"""``--report`` of compare and evaluate, on the tiny network."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli import job
from tests.cli.job import Lcam

OWN = """
from tests.tiny import tiny_network
def net():
    return tiny_network()
"""
COMMON = 'backbone = "own.py:net"\nimage-size = 32\nbatch-size = 4\n'
SETTINGS = (
    f"[compare]\n{COMMON}\n[explain]\n{COMMON}\n"
    '[evaluate]\nbackbone = "own.py:net"\nbatch-size = 4\n'
)


lcam = job.lcam


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    job.begin(tmp_path, monkeypatch, OWN, 10)
    (tmp_path / "lcam.toml").write_text(SETTINGS)
    return tmp_path


def entries(report: Path) -> list[list[Any]]:
    lines = (report / "lcam-files" / "data.js").read_text("ascii").splitlines()[1:-1]
    return [json.loads(line.removesuffix(",")) for line in lines]


def averages(report: Path, method: int, nu: int) -> tuple[float, float]:
    """AD and IC of the gallery's own numbers."""
    pairs = [(entry[5], entry[6][method][nu]) for entry in entries(report)]
    drops = [max(0, full - masked) / full for full, masked in pairs]
    rises = [masked > full for full, masked in pairs]
    return 100 * sum(drops) / len(pairs), 100 * sum(rises) / len(pairs)


def test_compares_report_shows_the_pictures_behind_its_numbers(folder: Path, lcam: Lcam) -> None:
    words = ("--methods", "gradcam,gradcam++", "--nu", "100,30", "--format", "json")
    done = lcam("compare", "photos", *words, "--report", "report")
    assert done.code == 0, done.err
    assert "wrote the report to report/index.html" in done.err
    rows = json.loads(done.out)["rows"]
    assert [row["method"] for row in rows] == ["gradcam", "gradcam++", "random"]
    report = folder / "report"
    assert len(entries(report)) == 10
    for method, row in enumerate(rows):
        for k, nu in enumerate(("100", "30")):
            ad, ic = averages(report, method, k)
            assert ad == pytest.approx(row["nu"][nu]["ad"], abs=0.02)
            assert ic == pytest.approx(row["nu"][nu]["ic"], abs=1e-4)
    text = (report / "index.html").read_text("utf-8")
    for row in rows:
        assert f"{row['nu']['30']['ad']:.2f}</span>" in text
    assert not list(folder.glob("runs/compare/*/*.h5")), "maps are kept for outputs alone"
    assert not list(report.glob(".*")), "nor is anything hidden left"


def test_the_maps_are_kept_as_well_and_methods_taken_over(folder: Path, lcam: Lcam) -> None:
    words = ("compare", "photos", "--methods", "gradcam", "--report", "report")
    assert lcam(*words, "--out", "maps.h5").code == 0
    first = entries(folder / "report")
    scored = lcam("evaluate", "--method", "gradcam", "--report", "other", "--no-floor")
    assert scored.code == 0, scored.err
    assert [e[:6] for e in entries(folder / "other")] == [e[:6] for e in entries(folder / "report")]
    again = lcam(*words, "--overwrite", "--resume")
    assert again.code == 0, again.err
    assert entries(folder / "report") == first


def test_evaluates_report_shows_the_pictures_behind_its_numbers(folder: Path, lcam: Lcam) -> None:
    words = ("--method", "gradcam", "--class", "1", "--class", "3", "--map-dtype", "float32")
    assert lcam("explain", "photos", *words).code == 0
    (folder / "photos" / "004.jpg").unlink()
    done = lcam("evaluate", "--nu", "100,30", "--format", "json", "--report", "report")
    assert done.code == 3, done.err
    rows = json.loads(done.out)["rows"]
    report = folder / "report"
    found = entries(report)
    assert len(found) == 18
    assert [entry[2] for entry in found] == [1, 3] * 9
    assert [entry[1] for entry in found] == [k for k in range(9) for _ in range(2)]
    for method, row in enumerate(rows):
        for k, nu in enumerate(("100", "30")):
            ad, ic = averages(report, method, k)
            assert ad == pytest.approx(row["nu"][nu]["ad"], abs=0.02)
            assert ic == pytest.approx(row["nu"][nu]["ic"], abs=1e-4)


@pytest.mark.parametrize("command", ["compare", "evaluate"])
def test_nothing_is_overwritten_unasked(folder: Path, lcam: Lcam, command: str) -> None:
    words = {
        "compare": ("compare", "photos", "--methods", "gradcam"),
        "evaluate": ("evaluate", "maps.h5"),
    }[command]
    if command == "evaluate":
        assert lcam("explain", "photos", "--method", "gradcam").code == 0
    (folder / "report").mkdir()
    (folder / "report" / "mine.txt").write_text("mine")
    done = lcam(*words, "--report", "report")
    assert done.code == 2
    assert "--report report is not empty" in done.err
    assert sorted(p.name for p in (folder / "report").iterdir()) == ["mine.txt"]
    done = lcam(*words, "--report", "report", "--overwrite")
    assert done.code == 0, done.err
    assert (folder / "report" / "mine.txt").read_text() == "mine"
    assert (folder / "report" / "index.html").is_file()


def test_file_names_do_nothing(folder: Path, lcam: Lcam) -> None:
    name = "<script>alert(1)<\u2044script>\u2028.jpg"
    (folder / "photos" / "000.jpg").rename(folder / "photos" / name)
    done = lcam("compare", "photos", "--methods", "gradcam", "--report", "report")
    assert done.code == 0, done.err
    text = (folder / "report" / "lcam-files" / "data.js").read_text("ascii")
    assert "<" not in text
    assert any(entry[0].startswith("<script>alert(1)") for entry in entries(folder / "report"))
    assert len(re.findall("<script", (folder / "report" / "index.html").read_text("utf-8"))) == 9
