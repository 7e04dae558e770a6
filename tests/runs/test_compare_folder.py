"""``compare_folder``: what ``lcam compare`` does, from Python."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from lcam_cli import CompareOptions, LcamError, compare_folder
from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.methods.base import Maps
from lcam_cli.methods.gradient import GradCam
from lcam_cli.methods.registry import METHODS, Entry
from lcam_cli.reports.results import Results, to_json
from lcam_cli.runs.options import BackboneOptions, EngineOptions
from lcam_cli.runs.reporter import Progress, Reporter
from tests.cli import job
from tests.cli.job import Lcam

OWN = """
from tests.tiny import tiny_network
def net():
    return tiny_network()
"""
BACKBONE = BackboneOptions(backbone="own.py:net", image_size=32)
ENGINE = EngineOptions(batch_size=4, workers=1, device="cpu")
WORDS = ("--backbone", "own.py:net", "--image-size", "32", "--batch-size", "4", "--device", "cpu")

lcam = job.lcam


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    job.begin(tmp_path, monkeypatch, OWN, 10)
    return tmp_path


def options(*methods: str, **more: Any) -> CompareOptions:
    return CompareOptions(methods, nu=(50.0,), backbone=BACKBONE, engine=ENGINE, **more)


def comparable(results: Results | str | None) -> Any:
    """The rows without how long they took."""
    assert results is not None
    content = json.loads(results if isinstance(results, str) else to_json(results))
    for row in content["rows"]:
        row.pop("images_per_second")
    return content


def test_the_results_and_files_are_the_commands(folder: Path, lcam: Lcam) -> None:
    said, seen = [], []
    reporter = Reporter(seen.append, on_info=said.append)
    files = {"out": Path("m.h5"), "figure": Path("f.png"), "report": Path("page")}
    ours = compare_folder("photos", options("gradcam", "gradcam++", **files), reporter=reporter)
    words = ("--nu", "50", "--methods", "gradcam,gradcam++", "--format", "json")
    theirs = lcam("compare", "photos", *WORDS, *words)
    assert comparable(ours.results) == comparable(theirs.out)
    assert (ours.left_out, ours.interrupted, ours.is_first) == ((), False, True)
    assert ours.page == Path("page/index.html")
    assert all(path.exists() for path in (ours.page, files["out"], files["figure"]))
    assert "wrote the maps of all methods to m.h5" in said
    assert {p.what for p in seen} == {"gradcam, gradcam++, random", "report"}
    assert [p.done for p in seen if p.what == "report"][-1] == 10
    with pytest.raises(LcamError, match=r"m\.h5 exists"):
        compare_folder("photos", options("gradcam", out=Path("m.h5")))


def test_warnings_go_to_the_callback_and_the_log_is_left_as_it_was(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "photos" / "003.jpg").write_text("no picture")
    before = logging.getLogger("lcam").handlers, logging.getLogger("lcam").propagate
    warned: list[str] = []
    found = compare_folder(
        ["photos/002.jpg", Path("photos/003.jpg")],
        options("gradcam"),
        reporter=Reporter(on_warning=warned.append),
    )
    assert found.results is not None
    assert (found.results.images, found.results.skipped) == (1, 1)
    assert [line.partition(":")[0] for line in warned] == ["skipped photos/003.jpg"]
    assert (logging.getLogger("lcam").handlers, logging.getLogger("lcam").propagate) == before
    assert not caplog.records
    compare_folder(["photos/002.jpg", "photos/003.jpg"], options("gradcam"))
    assert "skipped photos/003.jpg" in caplog.text, "without a callback the log has them"


class Slow(GradCam):
    """Counts the images it explains, and interrupts the run where it is told to."""

    name, forward_passes = "slow", 9

    def __init__(self) -> None:
        super().__init__()
        self.count, self.interrupts = 0, False

    def __call__(self, engine: Engine, seen: Forward, classes: Tensor) -> Maps:
        if self.interrupts:
            raise KeyboardInterrupt
        self.count += len(seen.x)
        return super().__call__(engine, seen, classes)


def test_an_interrupted_comparison_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick, slow = Slow(), Slow()
    quick.name, quick.forward_passes = "quick", 1
    monkeypatch.setitem(METHODS, "quick", Entry("of the tests", lambda *_: quick))
    monkeypatch.setitem(METHODS, "slow", Entry("of the tests", lambda *_: slow))
    whole = compare_folder("photos", options("quick", "slow", state=Path("other")))
    assert (quick.count, slow.count) == (10, 10)
    slow.interrupts = True
    with pytest.raises(KeyboardInterrupt, match="finished results are saved in runs/compare/"):
        compare_folder("photos", options("quick", "slow"))
    slow.interrupts = False
    asked = iter([False, True])
    stopped = compare_folder(
        "photos", options("quick", "slow", resume=True), stop=lambda: next(asked)
    )
    assert (stopped.results, stopped.interrupted) == (None, True)
    assert list(stopped.state.glob("*.npz")), "the first sweep is kept"
    assert (quick.count, slow.count) == (20, 18), "after two batches"
    said: list[str] = []
    rest = compare_folder(
        "photos", options("quick", "slow", resume=True), reporter=Reporter(on_info=said.append)
    )
    assert (quick.count, slow.count) == (20, 28)
    assert "reused from an earlier run: quick, random" in said
    assert comparable(rest.results) == comparable(whole.results)


def test_a_ctrl_c_before_anything_is_begun_stays_one(folder: Path) -> None:
    (folder / "own.py").write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        compare_folder("photos", options("gradcam"))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [({"nu": (0.0,)}, "ν = 0 is not above 0"), ({"metrics": ("insertoin",)}, "is not a measure")],
)
def test_options_that_there_are_not(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(LcamError, match=told):
        CompareOptions(**wrong)


def test_progress_counts_up(folder: Path) -> None:
    seen: list[Progress] = []
    compare_folder("photos", options("gradcam", floor=False), reporter=Reporter(seen.append))
    assert [(p.done, p.total, p.unit) for p in seen] == [
        (4, 10, "images"),
        (8, 10, "images"),
        (10, 10, "images"),
    ]
