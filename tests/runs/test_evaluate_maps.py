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
from tests.runs.test_explain_folder import after

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
    theirs = lcam("evaluate", maps, *words, "--max-ad=-1", "--min-ic=-1")
    assert comparable(ours.results) == comparable(theirs.out)
    assert comparable(Path("r.json").read_text()) == comparable(theirs.out)
    assert ours.to_dict() == json.loads(Path("r.json").read_text())
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


def test_a_stop_that_is_said_once_counts(maps: Path) -> None:
    options = EvaluateOptions(report=Path("page"), backbone=BACKBONE, engine=ENGINE)
    found = evaluate_maps(maps, options, stop=after(2))
    assert (found.results, found.interrupted) == (None, True)
    assert not Path("page").exists(), "so that the same can be done again"
    assert evaluate_maps(maps, options).page == Path("page/index.html")
    with pytest.raises(LcamError, match="page is not empty"):
        evaluate_maps(maps, options)
    assert Path("page/index.html").is_file()


def test_a_stop_before_any_picture_could_be_read_is_one(maps: Path) -> None:
    for picture in sorted(Path("photos").iterdir())[:4]:
        picture.write_text("no picture")
    options = EvaluateOptions(backbone=BACKBONE, engine=ENGINE)
    assert evaluate_maps(maps, options, stop=after(1)).interrupted


def test_a_failure_leaves_nothing_of_a_page(maps: Path) -> None:
    folder = Path("page")
    folder.mkdir()

    def fail(_: Progress) -> None:
        raise OSError("of the caller")

    options = EvaluateOptions(report=folder, backbone=BACKBONE, engine=ENGINE)
    with pytest.raises(OSError, match="of the caller"):
        evaluate_maps(maps, options, reporter=Reporter(fail))
    assert list(folder.iterdir()) == [], "it was there before"


def test_out_is_claimed_before_the_work(maps: Path, lcam: Lcam) -> None:
    refused: list[str] = []

    def another(_: Progress) -> None:
        with pytest.raises(LcamError, match="is being written by another run") as error:
            evaluate_maps(maps, options)
        refused.append(error.value.what)

    options = EvaluateOptions(out=Path("new/r.md"), backbone=BACKBONE, engine=ENGINE)
    assert evaluate_maps(maps, options, reporter=Reporter(another)).results
    assert len(refused) == 3
    assert [path.name for path in Path("new").iterdir()] == ["r.md"]
    with pytest.raises(LcamError, match="--out photos is a folder"):
        evaluate_maps(maps, EvaluateOptions(out=Path("photos"), overwrite=True))


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
