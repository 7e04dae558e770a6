"""A run goes on where it began, though the program's working folder changes meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lcam_cli import (
    BackboneOptions,
    CompareOptions,
    DiagnoseOptions,
    EngineOptions,
    EvaluateOptions,
    ExplainOptions,
    OverlayOptions,
    Progress,
    Reporter,
    TrainOptions,
    compare_folder,
    diagnose_folder,
    evaluate_maps,
    explain_folder,
    train_attention,
)
from lcam_cli.working_folder import RunPath, working_folder_kept
from tests.cli import job
from tests.runs.test_compare_folder import OWN
from tests.tiny import write_pictures

GROUPS: dict[str, Any] = {
    "backbone": BackboneOptions("own.py:net"),
    "engine": EngineOptions("cpu", batch_size=4, workers=1),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with four classes of three images, and ``elsewhere`` beside it."""
    here = tmp_path / "here"
    here.mkdir()
    (tmp_path / "elsewhere").mkdir()
    job.begin(here, monkeypatch, OWN, 0)
    for c in range(4):
        write_pictures(here / "photos" / str(c), 3, seed=c)
    return here


def explained(reporter: Reporter) -> list[Path]:
    options = ExplainOptions("gradcam", overlays=OverlayOptions(Path("drawn")), **GROUPS)
    result = explain_folder("photos", "maps.h5", options, reporter=reporter)
    assert result.rows == 12
    assert len(list(Path("../here/drawn").rglob("*.png"))) == 12
    return [result.out]


def explained_to_pngs(reporter: Reporter) -> list[Path]:
    result = explain_folder(
        "photos", "pngs", ExplainOptions("gradcam", **GROUPS), reporter=reporter
    )
    assert result.rows == 12
    return [result.out, Path("pngs/maps"), Path("pngs/overlays")]


def trained(reporter: Reporter) -> list[Path]:
    result = train_attention("photos", TrainOptions(epochs=2, **GROUPS), reporter=reporter)
    return [result.out, result.attention]


def evaluated(reporter: Reporter) -> list[Path]:
    explain_folder("photos", "maps.h5", ExplainOptions("gradcam", **GROUPS))
    options = EvaluateOptions(out="r.md", report="page", **GROUPS)  # type: ignore[arg-type]
    result = evaluate_maps("maps.h5", options, reporter=reporter)
    assert result.page is not None
    return [Path("r.md"), result.page]


def compared(reporter: Reporter) -> list[Path]:
    files = {"out": Path("m.h5"), "figure": Path("f.png"), "report": Path("page")}
    options = CompareOptions(("gradcam", "ablationcam"), **files, **GROUPS)
    result = compare_folder("photos", options, reporter=reporter)
    assert result.page is not None
    return [result.state, result.page, *files.values()]


def diagnosed(reporter: Reporter) -> list[Path]:
    files = {"out": Path("d.md"), "figure": Path("f.png"), "report": Path("page")}
    options = DiagnoseOptions("gradcam", **files, **GROUPS)
    result = diagnose_folder("photos", "folders", options, reporter=reporter)
    assert result.page is not None
    return [result.page, *files.values()]


@pytest.mark.parametrize(
    "run", [explained, explained_to_pngs, trained, evaluated, compared, diagnosed]
)
def test_a_callback_that_leaves_the_folder(
    folder: Path, run: Callable[[Reporter], list[Path]]
) -> None:
    (folder / "photos" / "3" / "broken.jpg").write_text("no picture")
    warned: list[str] = []

    def leave(_: Progress) -> None:
        os.chdir(folder.parent / "elsewhere")

    try:
        written = run(Reporter(leave, warned.append))
        assert not list(Path().iterdir())
    finally:
        os.chdir(folder)
    for path in written:
        assert type(path) is type(Path()), "a plain one"
        assert not path.is_absolute()
        assert path.exists(), path
    assert sum(line.startswith("skipped ") for line in warned) <= 1
    if run is not evaluated:
        assert any(line.startswith("skipped photos/3/broken.jpg: ") for line in warned)


def test_a_path_of_a_run_leads_into_its_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with working_folder_kept():
        path = RunPath("photos")
        monkeypatch.chdir(folder.parent / "elsewhere")
        assert sorted(path.iterdir()) == [RunPath(f"photos/{c}") for c in range(4)]
        assert path.is_dir()
        assert (path / "0" / "000.jpg").read_bytes()
        assert str(path) == "photos"
    assert not path.is_dir()
