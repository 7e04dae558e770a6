"""``sanity_check``: what ``lcam sanity`` does, from Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lcam_cli import LcamError, PictureOptions, SanityOptions, sanity_check
from lcam_cli.runs.reporter import Progress, Reporter
from tests.cli import job
from tests.cli.job import Lcam
from tests.runs.test_compare_folder import BACKBONE, ENGINE, OWN, WORDS

lcam = job.lcam


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    job.begin(tmp_path, monkeypatch, OWN, 5)
    return tmp_path


def test_the_result_and_files_are_the_commands(folder: Path, lcam: Lcam) -> None:
    (folder / "photos" / "001.jpg").write_text("no picture")
    warned: list[str] = []
    steps: list[Progress] = []
    options = SanityOptions(
        "layercam",  # type: ignore[arg-type]
        stages=2,
        max_similarity=-1,
        out=Path("s.json"),
        format="json",
        figure=Path("f.png"),
        backbone=BACKBONE,
        engine=ENGINE,
    )
    ours = sanity_check(Path("photos"), options, reporter=Reporter(steps.append, warned.append))
    theirs = lcam(
        *("sanity", "photos", "--methods", "layercam", "--stages", "2", "--format", "json", *WORDS)
    )
    assert ours.to_dict() == json.loads(theirs.out)
    assert Path("s.json").read_text() == theirs.out
    assert Path("f.png").is_file()
    assert warned[0].startswith("skipped photos/001.jpg")
    assert (ours.skipped, ours.skipped_what, ours.interrupted) == (1, "could not be read", False)
    assert len(ours.missed_gates) == 1
    assert (steps[-1].done, steps[-1].total, steps[-1].unit) == (40, 40, "maps")
    with pytest.raises(LcamError, match=r"f\.png exists"):
        sanity_check("photos", SanityOptions(figure=Path("f.png")))


def test_a_stop_leaves_no_result(folder: Path) -> None:
    options = SanityOptions(("gradcam",), out=Path("s.md"), backbone=BACKBONE, engine=ENGINE)
    found = sanity_check("photos", options, stop=lambda: True)
    assert (found.results, found.interrupted, found.to_dict()) == (None, True, None)
    assert not Path("s.md").exists()


def test_options_are_checked_where_they_are_made() -> None:
    assert SanityOptions().pictures == PictureOptions(max_images=50)
    for wrong in ({"stages": 0}, {"stages": 9}, {"max_similarity": 1.5}, {"rise_p": 1.0}):
        with pytest.raises(LcamError):
            SanityOptions(**wrong)  # type: ignore[arg-type]
