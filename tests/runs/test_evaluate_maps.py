"""``evaluate_maps``: what ``lcam evaluate`` does, from Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lcam_cli import EvaluateOptions, LcamError, evaluate_maps
from lcam_cli.reports.report import Report
from lcam_cli.runs.options import BackboneOptions, EngineOptions
from lcam_cli.runs.reporter import Progress, Reporter
from lcam_cli.runs.result_files import UnwrittenPageError
from tests.cli import job
from tests.cli.job import Lcam
from tests.runs.test_compare_folder import OWN, WORDS, comparable

BACKBONE = BackboneOptions(backbone="own.py:net")
ENGINE = EngineOptions(batch_size=4, workers=1)

lcam = job.lcam


@pytest.fixture
def maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lcam: Lcam) -> Path:
    job.begin(tmp_path, monkeypatch, OWN, 10)
    done = lcam("explain", "photos", "--method", "gradcam", *WORDS)
    assert done.code == 0, done.err
    return tmp_path / "maps.h5"


def test_the_results_and_files_are_the_commands(maps: Path, lcam: Lcam) -> None:
    seen: list[Progress] = []
    options = EvaluateOptions(
        nu=(50.0,),
        max_ad=-1,
        min_ic=-1,
        out=Path("r.json"),
        format="json",
        report=Path("page"),
        backbone=BACKBONE,
        engine=ENGINE,
    )
    ours = evaluate_maps(maps, options, reporter=Reporter(seen.append))
    words = ("--nu", "50", "--backbone", "own.py:net", "--format", "json")
    theirs = lcam("evaluate", maps, *words)
    assert comparable(ours.results) == comparable(theirs.out)
    assert comparable(Path("r.json").read_text()) == comparable(theirs.out)
    assert ours.page == Path("page/index.html")
    assert ours.page.is_file()
    assert not ours.interrupted
    (missed,) = ours.missed_gates
    assert missed.startswith("gradcam: AD(50) is ")
    assert [(p.what, p.done, p.total) for p in seen][-1] == ("evaluate", 10, 10)
    with pytest.raises(LcamError, match="page is not empty"):
        evaluate_maps(maps, EvaluateOptions(report=Path("page")))


def test_what_is_left_out_is_counted(maps: Path) -> None:
    Path("photos/003.jpg").write_text("no picture")
    warned: list[str] = []
    options = EvaluateOptions(floor=False, backbone=BACKBONE, engine=ENGINE)
    found = evaluate_maps(str(maps), options, reporter=Reporter(on_warning=warned.append))
    assert (found.skipped, found.skipped_what) == (1, "could not be read")
    assert len(warned) == 1
    assert warned[0].startswith("skipped ")


def test_a_stop_leaves_no_result(maps: Path) -> None:
    asked: list[bool] = []
    out, page = Path("r.json"), Path("page")
    options = EvaluateOptions(out=out, report=page, backbone=BACKBONE, engine=ENGINE)
    found = evaluate_maps(maps, options, stop=lambda: asked.append(True) or len(asked) > 1)
    assert (found.results, found.interrupted) == (None, True)
    assert not out.exists()
    assert not (page / "index.html").exists()


def test_a_page_that_cannot_be_written_costs_no_result(
    maps: Path, lcam: Lcam, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finish(*_: object) -> Path:
        raise LcamError("the disk is full", "make room")

    monkeypatch.setattr(Report, "finish", finish)
    words = ("--nu", "50", "--backbone", "own.py:net", "--format", "json", "--report", "page")
    done = lcam("evaluate", maps, *words)
    assert (done.code, done.err.splitlines()[-2:]) == (2, ["error: the disk is full", "make room"])
    assert [row["method"] for row in json.loads(done.out)["rows"]] == ["gradcam", "random"]
    options = EvaluateOptions(report=Path("other"), backbone=BACKBONE, engine=ENGINE)
    with pytest.raises(UnwrittenPageError, match="disk is full") as unwritten:
        evaluate_maps(maps, options)
    assert unwritten.value.result.results.images == 10
