"""A sanity check's table: what is shown, marked, parted and escaped."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rich.console
from PIL import Image

from lcam_cli.engine.cascade import Stage
from lcam_cli.errors import LcamError
from lcam_cli.measures.similarity import ShownPicture, Similarity
from lcam_cli.reports.sanity import (
    SanityReport,
    SanityRow,
    caption,
    left_out_words,
    to_csv,
    to_json,
    to_latex,
    to_markdown,
    to_rich,
)
from lcam_cli.reports.sanity_figure import draw_sanity, pictures_drawn

STAGES = [Stage(("head", "b.1"), "head", "b"), Stage(("a_1",), "a_1", "a_1")]
NONE = Similarity(None, None, 0, 5)


def similar(mean: float, flat: int = 0) -> Similarity:
    return Similarity(mean, (mean - 0.1, mean + 0.1), 5 - flat, flat)


def report(*rows: SanityRow) -> SanityReport:
    return SanityReport("net", "sha256:" + 64 * "a", "b", 5, 0, 3, "fp32", "cpu", STAGES, rows)


FALLS = SanityRow("falls", [similar(0.5), similar(-0.001)], similar(0.9))
STAYS = SanityRow("stays", [similar(0.9, flat=2), similar(0.501)], similar(1.0, flat=1))
FLAT = SanityRow("flat", [similar(0.2), NONE], None)
NOISE = SanityRow("random", [similar(1), similar(1)], similar(0))
ALL = report(FALLS, STAYS, FLAT, NOISE)


def drawn(found: SanityReport, width: int | None = None) -> str:
    out = io.StringIO()
    console = rich.console.Console(file=out, width=width or 10_000, color_system=None)
    console.print(to_rich(found, width))
    return out.getvalue()


def test_what_stays_above_one_half_is_marked_in_words() -> None:
    assert [row.verdict for row in ALL.rows] == [
        *("", "hardly moves", "not defined", "does not use the network"),
    ]
    assert [row.moves for row in ALL.rows] == [True, False, None, False]
    assert SanityRow("at it", [similar(0.5)], None).moves
    assert "hardly moves: above 0.5 with all weights randomised" in caption(ALL)
    assert "hardly moves" not in caption(report(FALLS))
    assert "random " not in caption(report(FALLS))


def test_gates_hold_all_but_noise_and_what_is_not_defined_misses_them() -> None:
    assert ALL.missed_gates(None) == []
    assert ALL.missed_gates(0.6) == [
        "flat: the similarity at the last stage is not defined, so it cannot be shown to "
        "be at most 0.6"
    ]
    first, _ = ALL.missed_gates(0.5)
    assert first == "stays: with all weights randomised the similarity is 0.5010, above 0.5"


def test_pictures_left_out_are_told() -> None:
    (words,) = left_out_words(ALL)
    assert words.endswith("(most in one column, of 5 images: stays 2, flat 5)")
    failed = replace(NONE, flat=0, failed=4)
    (other,) = left_out_words(report(replace(FALLS, other_class=failed)))
    assert "missing or not finite" in other
    assert "falls 4)" in other


def test_it_is_said_how_maps_are_placed() -> None:
    placed, asked = replace(FALLS, align=True), replace(STAYS, tiled="asked")
    unknown = replace(FLAT, tiled="unknown")
    assert "tile" not in caption(report(placed, NOISE))
    assert "; cells tile the image (--no-align)" in caption(report(asked))
    assert "; not aligned: flat (the positions of the cells are not known)" in caption(
        report(unknown)
    )
    rows = json.loads(to_json(report(placed, asked)))["rows"]
    assert [row["align"] for row in rows] == [True, False]


def test_a_narrow_terminal_gets_the_table_in_parts_and_nothing_is_cut() -> None:
    wide = drawn(ALL)
    assert wide.count("┃ method") == 1
    for width in (60, 45):
        narrow = drawn(ALL, width)
        assert len(re.findall(r"^ *method ", narrow, re.MULTILINE)) > 1
        assert max(map(len, narrow.splitlines())) <= width
        for cell in ("0.50", "(0.40 to 0.60)", "0.00", "(-0.10 to 0.10)", "–", "to b", "stays"):
            assert cell in narrow, (width, cell)
        assert "…" not in narrow


def test_names_cannot_break_a_format() -> None:
    evil = report(replace(FALLS, method="=x|<b>\n&_"))
    (first, *_) = csv.DictReader(io.StringIO(to_csv(evil)))
    assert first["method"] == "'=x|<b>\\n&_"
    line = to_markdown(evil).splitlines()[2]
    assert line.startswith(r"| =x\|\<b\>\\n\&\_ | 0.50 (0.40 to 0.60) | 0.00 (-0.10 to 0.10)")
    assert r"\&\_ & 0.50 (0.40 to 0.60)" in to_latex(evil)
    assert r"a\_1" in to_latex(evil)


def test_json_has_null_where_nothing_is_defined_and_no_negative_zero() -> None:
    content = json.loads(to_json(ALL))
    assert list(content["rows"][0]) == [
        *("method", "stages", "other_class", "moves", "verdict", "align"),
    ]
    assert content["rows"][2]["other_class"] is None
    assert content["rows"][2]["stages"][1] == {
        **{"similarity": None, "ci95": None, "images": 0, "flat_maps": 5, "failed": 0},
    }
    assert "-0.0," not in to_json(report(SanityRow("m", [similar(-1e-9)], None)))
    assert "-0.00" not in drawn(report(FALLS))


def test_a_figure_has_at_most_sixteen_columns_but_a_picture_a_method() -> None:
    assert [pictures_drawn(n) for n in (0, 1, 3, 8, 20)] == [6, 6, 5, 2, 1]


def test_a_map_that_is_missing_is_a_grey_tile(tmp_path: Path) -> None:
    maps = np.zeros((4, 8, 8), np.float16)
    maps[2] = np.nan
    shown = ShownPicture(np.full((8, 8, 3), 9, np.uint8), 0, 0.5, {"m": maps})
    draw_sanity(tmp_path / "f.png", [shown], ["m"], STAGES, ["cat"])
    with Image.open(tmp_path / "f.png") as figure:
        pixels = np.asarray(figure)
    grey = (pixels == 211).all(2)
    assert 300 * 300 <= grey.sum() < 1.01 * 300 * 300, "letters have some grey too"
    with pytest.raises(LcamError, match="no image to draw"):
        draw_sanity(tmp_path / "g.png", [], ["m"], STAGES, ["cat"])
