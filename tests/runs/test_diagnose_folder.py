"""``diagnose_folder``: what ``lcam diagnose`` does, from Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lcam_cli import DiagnoseOptions, LcamError, diagnose_folder
from lcam_cli.reports.diagnosis import to_json
from lcam_cli.runs.reporter import Reporter
from tests.cli import job
from tests.cli.job import Lcam
from tests.runs.test_compare_folder import BACKBONE, ENGINE, OWN, WORDS
from tests.runs.test_explain_folder import after
from tests.tiny import write_pictures

lcam = job.lcam


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four classes in four folders, three images each; the network is right on some."""
    job.begin(tmp_path, monkeypatch, OWN, 0)
    for c in range(4):
        write_pictures(tmp_path / "photos" / str(c), 3, seed=c)
    return tmp_path


def test_the_result_and_files_are_the_commands(folder: Path, lcam: Lcam) -> None:
    (folder / "photos" / "1" / "001.jpg").write_text("no picture")
    warned: list[str] = []
    files = {"out": Path("d.json"), "figure": Path("f.png"), "report": Path("page")}
    options = DiagnoseOptions(
        "gradcam", nu=30.0, format="json", backbone=BACKBONE, engine=ENGINE, **files
    )
    ours = diagnose_folder(
        Path("photos"), "folders", options, reporter=Reporter(on_warning=warned.append)
    )
    theirs = lcam(
        *("diagnose", "photos", "--labels", "folders", "--method", "gradcam", "--nu", "30"),
        *(*WORDS, "--format", "json"),
    )
    assert ours.results is not None
    assert json.loads(to_json(ours.results)) == json.loads(theirs.out)
    assert ours.to_dict() == json.loads(theirs.out)
    assert files["out"].read_text() == theirs.out
    assert ours.page == Path("page/index.html")
    assert all(path.is_file() for path in (ours.page, files["figure"]))
    assert (ours.skipped, ours.skipped_what) == (1, "could not be read")
    assert warned[0].startswith("skipped photos/1/001.jpg")
    with pytest.raises(LcamError, match=r"f\.png exists"):
        diagnose_folder("photos", "folders", DiagnoseOptions(figure=Path("f.png")))


def test_a_stop_leaves_no_result(folder: Path) -> None:
    options = DiagnoseOptions("gradcam", out=Path("d.md"), backbone=BACKBONE, engine=ENGINE)
    found = diagnose_folder("photos", "folders", options, stop=lambda: True)
    assert (found.results, found.interrupted) == (None, True)
    assert not Path("d.md").exists()


def test_a_stop_that_is_said_once_counts(folder: Path) -> None:
    options = DiagnoseOptions("gradcam", report=Path("page"), backbone=BACKBONE, engine=ENGINE)
    found = diagnose_folder("photos", "folders", options, stop=after(2))
    assert (found.results, found.interrupted) == (None, True)
    assert not Path("page").exists(), "so that the same can be done again"
    assert diagnose_folder("photos", "folders", options).page == Path("page/index.html")
