"""A diagnosis as text, figure and page."""

from __future__ import annotations

import csv
import html
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from lcam_cli.maps.display import DISPLAY_NOTE
from lcam_cli.measures.diagnose import Diagnosis, ExplainedMistake, Mistake
from lcam_cli.measures.error_groups import Evidence, Group, Rules
from lcam_cli.reports.diagnosis import (
    DiagnosisReport,
    caption,
    disagreement,
    headline,
    to_csv,
    to_json,
    to_markdown,
    to_rich,
)
from lcam_cli.reports.diagnosis_figure import PER_GROUP, WorstMistakes, draw_diagnosis
from lcam_cli.reports.diagnosis_page import DiagnosisPage

HOSTILE = '=A|1"><script>alert(1)</script>\x1b[2J'
CLASSES = ("boat", "key", HOSTILE)


def mistake(path: str, true: int, predicted: int, group: Group, true_score: float = 0.1) -> Mistake:
    return Mistake(path, true, predicted, Evidence(true_score, 0.8, 0.25, 0.03, 0.5), group)


def report(*mistakes: Mistake, images: int = 20) -> DiagnosisReport:
    return DiagnosisReport(
        backbone="net",
        weights=f"sha256:{64 * '0'}",
        layer="features",
        method="lcam-img",
        class_names=CLASSES,
        rules=Rules(),
        diagnosis=Diagnosis([images - 4, 3, 1], list(mistakes)),
        skipped=2,
        unlabelled=0,
        precision="fp32",
        device="cpu",
    )


def some() -> DiagnosisReport:
    return report(
        mistake("boat/1.jpg", 0, 1, Group.BIAS),
        mistake("boat/2.jpg", 0, 1, Group.BIAS),
        mistake("boat/3.jpg", 0, 2, Group.RELATED),
        mistake(f"{HOSTILE}/4.jpg", 2, 0, Group.SEVERAL),
    )


def shown(found: Mistake, side: int = 40) -> ExplainedMistake:
    view = np.full((side, side, 3), 90, np.uint8)
    ramp = np.linspace(0, 1, side * side, dtype=np.float32).reshape(side, side)
    return ExplainedMistake(found, view, ramp, ramp[::-1].copy())


def test_json_holds_all_of_it() -> None:
    found = json.loads(to_json(some()))
    assert found["schema"] == "lcam-diagnosis/1"
    assert (found["images"], found["misclassified"], found["skipped"]) == (20, 4, 2)
    assert found["rules"] == {"nu": 25.0, "same_region": 0.5, "evidence": 0.1}
    assert found["groups"] == {
        "related": {"pictures": 1, "share": 0.25},
        "several": {"pictures": 1, "share": 0.25},
        "bias": {"pictures": 2, "share": 0.5},
    }
    boat = found["classes"][0]
    assert (boat["class"], boat["signs"], boat["involved"], boat["recall"]) == (
        "boat",
        3,
        17,
        0.8125,
    )
    assert boat["shown_by"] == ["boat/1.jpg", "boat/2.jpg", f"{HOSTILE}/4.jpg"]
    assert boat["mistaken_for"][0] == {"class": "key", "index": 1, "pictures": 2}
    assert found["pictures"][0] == {
        "path": "boat/1.jpg",
        "true": "boat",
        "true_index": 0,
        "predicted": "key",
        "predicted_index": 1,
        "group": "bias",
        "true_score": 0.1,
        "predicted_score": 0.8,
        "overlap": 0.25,
        "true_kept": 0.03,
        "predicted_kept": 0.5,
    }
    assert len(found["pictures"]) == 4


def test_csv_has_a_line_a_picture_and_no_formula() -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(some()))))
    assert [line["group"] for line in lines] == ["bias", "bias", "related", "several"]
    assert lines[0]["overlap"] == "0.2500"
    assert lines[3]["true"].startswith("'=A|1")
    assert lines[3]["path"].startswith("'=A|1")
    assert "\x1b" not in to_csv(some())


def test_markdown_lists_groups_classes_and_pictures() -> None:
    text = to_markdown(some())
    assert text.startswith("4 of 20 images misclassified (top-1 80.00%): 1 same region (25%)")
    assert "| too little evidence | 2 | 50.0% |" in text
    assert "| boat | 0." in text
    assert "<script>" not in text
    assert "\x1b" not in text
    rows = [line for line in text.splitlines() if line.startswith("| boat/")]
    assert len(rows) == 3


def drawn(found: DiagnosisReport, width: int | None = None) -> str:
    console = Console(file=io.StringIO(), width=width or 1000)
    console.print(to_rich(found, width))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_the_terminals_table_names_the_most_suspicious_first() -> None:
    text = drawn(some())
    first = next(line for line in text.splitlines() if line.startswith("│"))
    assert "boat" in first
    assert "3 of 17" in first
    many = report(*(mistake(f"{i}.jpg", 0, 1, Group.BIAS) for i in range(3)))
    assert "more classes" not in drawn(many)
    assert "no class has 3 suspect images" not in drawn(many)
    few = report(*(mistake(f"{i}.jpg", 0, 1, Group.BIAS) for i in range(2)))
    assert "no class has 3 suspect images: this order means little yet" in drawn(few)
    assert "2 skipped" in caption(many)


def test_without_a_mistake_there_is_nothing_but_the_headline() -> None:
    nothing = report()
    assert headline(nothing) == "no misclassified image among 20 images"
    assert to_markdown(nothing).startswith("no misclassified image among 20")
    assert json.loads(to_json(nothing))["groups"]["bias"] == {"pictures": 0, "share": 0.0}
    assert to_csv(nothing).count("\n") == 1
    text = drawn(nothing)
    assert text.startswith("no misclassified image among 20 images\n")
    assert "─" not in text
    assert len(text) < 500, "no frame of an empty table"


def test_the_figure_keeps_the_worst_of_each_group() -> None:
    worst = WorstMistakes()
    for i in range(PER_GROUP + 3):
        worst.add(shown(mistake(f"{i}.jpg", 0, 1, Group.BIAS, true_score=i / 10)))
    worst.add(shown(mistake("last.jpg", 0, 1, Group.BIAS, true_score=0.0)))
    kept = [one.mistake.path for one in worst.of(Group.BIAS)]
    assert kept == ["0.jpg", "last.jpg", "1.jpg", "2.jpg"], "the surest errors, worst first"
    assert worst.of(Group.RELATED) == []


def test_the_figure_has_a_band_a_group(tmp_path: Path) -> None:
    heights = []
    for groups in ([Group.BIAS], [Group.BIAS, Group.RELATED]):
        worst = WorstMistakes()
        for group in groups:
            worst.add(shown(mistake(f"{HOSTILE}.jpg", 0, 2, group)))
        target = tmp_path / f"{len(groups)}.png"
        draw_diagnosis(target, worst, CLASSES)
        with Image.open(target) as drawn:
            heights.append(drawn.height)
            assert drawn.width > 300
            column = np.asarray(drawn.convert("RGB"), np.float32)[:, drawn.width - 150]
        assert (column != 255).any(1).mean() > 0.7, "three tiles a band, and lines between"
    assert heights[1] > 1.9 * heights[0]


def test_the_page_has_every_picture_and_runs_nothing_of_theirs(tmp_path: Path) -> None:
    page = DiagnosisPage(tmp_path / "page", (300, 300))
    found = some()
    for one in found.diagnosis.mistakes:
        page.add(shown(one, side=300))
    index = page.finish(found)
    text = index.read_text("utf-8")
    assert "<script>alert" not in text
    assert "\x1b" not in text
    files = tmp_path / "page" / "lcam-files"
    data = (files / "data.js").read_text("ascii")
    assert "<" not in data
    assert len(list((files / "maps").iterdir())) == 4
    images = sorted((files / "images").iterdir())
    assert len(images) == 4
    for image in images:
        with Image.open(image) as drawn:
            assert drawn.size == (256, 256)
    assert {p.name for p in tmp_path.iterdir()} == {"page"}


@pytest.mark.parametrize("of_pixels", [False, True])
def test_the_page_says_where_colours_end(tmp_path: Path, of_pixels: bool) -> None:
    page = DiagnosisPage(tmp_path, (40, 40), of_pixels=of_pixels)
    found = some()
    for one in found.diagnosis.mistakes:
        page.add(shown(one))
    text = html.unescape(page.finish(found).read_text("utf-8"))
    data = (tmp_path / "lcam-files" / "data.js").read_text("ascii")
    assert (DISPLAY_NOTE in text) == of_pixels
    assert ("99th percentile of the map" if of_pixels else "maximum of the map") in text
    end = "99" if of_pixels else "null"
    assert f'"percentiles":[{end},{end}]' in data


def test_a_page_without_a_mistake_says_so(tmp_path: Path) -> None:
    text = DiagnosisPage(tmp_path, (40, 40)).finish(report()).read_text("utf-8")
    assert "no misclassified image among 20" in text
    assert "data.js" not in text, "nothing to show"


@pytest.mark.parametrize("count", [1, 30])
def test_more_classes_than_fit_are_told(count: int) -> None:
    names = tuple(f"c{i}" for i in range(count + 1))
    found = DiagnosisReport(
        *("net", "w", "l", "m", names, Rules()),
        Diagnosis([3] * (count + 1), [mistake("x", i + 1, 0, Group.RELATED) for i in range(count)]),
        *(0, 0, "fp32", "cpu"),
    )
    text = drawn(found)
    assert sum(line.startswith("│ c") for line in text.splitlines()) == min(count + 1, 15)
    assert ("and 16 more classes" in text) == (count == 30)


@pytest.mark.parametrize("width", [60, 80])
def test_a_narrow_terminal_cuts_nothing(width: int) -> None:
    text = drawn(some(), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for title in ("class", "suspicion", "3 of 17", "recall", "taken", "false", "own", "evidence"):
        assert title in text


def second(*groups: Group | None) -> DiagnosisReport:
    """Errors that another method has put into these groups."""
    found = report(
        *(
            replace(mistake(f"{k}.jpg", 0, 1, Group.BIAS), second_group=group)
            for k, group in enumerate(groups)
        )
    )
    return replace(found, second_method="gradcam")


def test_a_second_method_that_groups_otherwise_is_a_warning(tmp_path: Path) -> None:
    found = second(Group.BIAS, Group.RELATED, None, Group.BIAS)
    words = "gradcam puts 1 of 4 misclassified images (25%) into another group than lcam-img"
    assert disagreement(found) == f"{words}: the groups depend on the method"
    assert words in drawn(found)
    content = json.loads(to_json(found))
    assert content["second_method"] == {"method": "gradcam", "other_group": 1}
    assert [p["second_group"] for p in content["pictures"]] == ["bias", "related", None, "bias"]
    lines = list(csv.DictReader(io.StringIO(to_csv(found))))
    assert [line["second_group"] for line in lines] == ["bias", "related", "", "bias"]
    text = DiagnosisPage(tmp_path, (40, 40)).finish(found).read_text("utf-8")
    assert f"<strong>Warning:</strong> {words}" in text


def test_a_second_method_that_agrees_is_a_note() -> None:
    found = second(*[Group.BIAS] * 10)
    assert disagreement(found) == ""
    assert "gradcam puts 0 of 10 misclassified images (0%) into another group" in drawn(found)
    assert "second_method" not in json.loads(to_json(some())), "none was asked"
    assert disagreement(some()) == ""
