"""The page of a report: its table, and that names from outside are text."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lcam_cli.reports.columns import columns
from lcam_cli.reports.gallery import GalleryInfo
from lcam_cli.reports.report import Report, table_cells
from lcam_cli.reports.results import Results
from tests.reports.sample import FOUR, results, row

NASTY = '"><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7 * 7 }}'


def page(folder: Path, measured: Results, space: str = "pixel", side: int = 32) -> str:
    names = [one.method for one in measured.rows]
    shown = GalleryInfo(names, None, measured.nus, (0, 0, 0), (side, side), ["cat"])
    with Report(folder, "compare", shown) as report:
        index = report.finish(replace(measured, mask_space=space))
    return index.read_text("utf-8")


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def tags(text: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(text)
    return parser.found


def test_the_table_has_the_numbers_with_their_intervals() -> None:
    cells = table_cells(list(columns(FOUR)))
    rise = cells[2]
    assert [(c.text, c.interval, c.rank) for c in rise[:3]] == [
        ("rise", "", ""),
        ("8.74", "7.74 to 9.74", "best"),
        ("51.30", "49.30 to 53.30", "best"),
    ]
    assert [float(c.value) for c in rise[1:]] == [8.74, 51.3, 78.7, 4.45, 4000, 0.123, 61.2]


def test_what_is_unknown_is_sorted_as_nothing() -> None:
    unknown = results(row("cam", (1, 2), (3, 4), passes=None))  # type: ignore[arg-type]
    (cells,) = table_cells(list(columns(unknown)))
    assert [(c.text, c.value) for c in cells if c.text == "?"] == [("?", "")]


def test_the_page_draws_every_method_at_every_nu(tmp_path: Path) -> None:
    text = page(tmp_path, FOUR)
    found = tags(text)
    assert sum(tag == "tr" for tag, _ in found) == 1 + len(FOUR.rows)
    dots = re.findall(r"<circle [^>]*><title>([^<]*)</title>", text)
    assert len(dots) == 2 * len(FOUR.rows) * len(FOUR.nus)
    assert "rise, ν = 100: 8.74 (7.74 to 9.74)" in dots
    assert "mean colour" not in text
    assert "mean colour" in page(tmp_path, FOUR, "normalized")
    assert "reduced to" not in text
    assert "reduced to 256×256" in page(tmp_path, FOUR, side=384)


def test_a_single_nu_has_no_curve(tmp_path: Path) -> None:
    text = page(tmp_path, results(row("cam", (12.0, 34.0))))
    assert "<polyline" not in text
    assert "One ν was measured, 100" in text


@pytest.mark.parametrize("where", ["method", "backbone", "layer"])
def test_names_from_outside_stay_text(tmp_path: Path, where: str) -> None:
    names = {"method": "cam", "backbone": "vgg16", "layer": "features"} | {where: NASTY}
    measured = Results(
        names["backbone"],
        "w",
        names["layer"],
        3,
        0,
        "fp32",
        "cpu",
        [row(names["method"], (1, 2), (3, 4)), row("other", (1, 2), (3, 4))],
    )
    text = page(tmp_path, measured)
    found = tags(text)
    images = [given for tag, given in found if tag == "img"]
    assert [given.get("id") for given in images] == ["viewer-image"], "ours, and no other"
    assert not [tag for tag, given in found if "onerror" in given]
    scripts = [given for tag, given in found if tag == "script"]
    assert len(scripts) == 9
    assert all((given["src"] or "").startswith("lcam-files/") for given in scripts)
    assert html.escape(NASTY, quote=False).split("{{")[1].strip() in text.replace("&#34;", '"')
