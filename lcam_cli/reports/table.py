"""Results as tables: for the terminal, for Markdown, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lcam_cli.errors import plural
from lcam_cli.measures.measure import NO_NUMBERS
from lcam_cli.measures.score import Difference, Score
from lcam_cli.reports.columns import BEST, HIGHER, LOWER, SECOND, Column, columns
from lcam_cli.reports.nu_key import nu_key
from lcam_cli.reports.results import FLOOR, Results, Row
from lcam_cli.reports.text import (
    csv_text,
    markdown_text,
    printable,
    short_weights,
    tiled_words,
)

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

ENOUGH = 10_000
"""Columns of a terminal that is wide enough for every table."""

CLOSE = "≈"
"""Stands behind a number that does not differ significantly from the best of its column."""

STAR = "*"
"""Stands behind the best of a column where nothing can be bold."""

_MOST = 16
"""Columns of a table in a text: with more it is parted. A default run at three ν has 13 or 14."""


def caption(results: Results) -> str:
    """Return one line that says what was measured, on what."""
    skipped = f" ({results.skipped} skipped)" if results.skipped else ""
    right = results.accuracy
    accuracy = (
        f"; top-1 {right.top1:.2f}%, top-5 {right.top5:.2f}% on {right.count} labelled"
        if right is not None and right.top1 is not None
        else ""
    )
    left_out = "".join(f"; {words}" for words in undefined_words(results))
    close = (
        f"; {CLOSE}: no significant difference from the best (95%, same images)"
        if any(any(column.close) for column in columns(results))
        else ""
    )
    tiled = "".join(f"; {words}" for words in [*placing_words(results), *classless_words(results)])
    hidden = "; hidden pixels have the mean colour" if results.mask_space == "normalized" else ""
    kept = "; kept pixels unchanged" if results.keep == "whole" else ""
    return printable(
        f"{results.backbone}, {short_weights(results.weights)}, {results.layer or 'no layer'}; "
        f"{plural(results.images, 'image')}{skipped}{left_out}{accuracy}{hidden}{kept}; "
        f"{results.precision} on {results.device}{tiled}{close}"
    )


def placing_words(results: Results) -> list[str]:
    """Return what is said of rows whose cells are not placed by their receptive fields, if any."""
    return tiled_words({row.method: row.tiled for row in results.rows if row.method != FLOOR})


def classless_words(results: Results) -> list[str]:
    """Return what is said of rows whose maps are the same for every class, if there are any."""
    names = ", ".join(row.method for row in results.rows if row.classless)
    return [f"explains no class: {names}"] if names else []


def undefined_words(results: Results) -> list[str]:
    """Return what is said of each measure that is undefined for some maps."""
    counts = results.undefined or {}
    return [
        f"{measure.title}: "
        + (measure.left_out or NO_NUMBERS).format(maps=plural(counts[measure.name], "map"))
        for measure in results.measures
        if counts.get(measure.name)
    ]


def to_rich(
    results: Results, width: int | None = None, *, intervals: bool = False
) -> RenderableType:
    """Return the table for the terminal: best bold, second underlined.

    Args:
        results: What was measured.
        width: Columns of the terminal. Where the table is wider, its heads take two lines and its
            lines go; where that is still too wide, it is parted: nothing is cut. None for a pipe,
            where nothing is bold: an asterisk marks the best.
        intervals: Whether the 95% interval of a number stands below it.
    """
    from rich.console import Group
    from rich.text import Text

    every = columns(results)
    styles = [_Style(intervals, narrow, stars=width is None) for narrow in (False, True)]
    wide, narrow = styles
    style = wide if width is None or natural_width(_drawn(list(every), wide)) <= width else narrow

    def fits(shown: Sequence[Column]) -> bool:
        return width is None or natural_width(_drawn(shown, style)) <= width

    tables = [_drawn(shown, style) for shown in every.parted(fits)]
    return Group(*tables, Text(f"{caption(results)}\n{legend(list(every), stars=style.stars)}"))


@dataclass(frozen=True)
class _Style:
    """How a table is drawn: with intervals, with narrow columns, with asterisks for bold."""

    intervals: bool
    narrow: bool
    stars: bool


_MEANINGS = {
    "#FW": "forward passes a map costs",
    "mean V": "mean of the maps, 0 to 1",
    "flat": "maps of one value everywhere",
}


def legend(shown: Sequence[Column], *, stars: bool) -> str:
    """Return the lines that say what the signs of a table mean.

    Args:
        shown: Its columns.
        stars: Whether an asterisk marks the best; else it is bold, and the second underlined.
    """
    ways = {LOWER: "lower is better", HIGHER: "higher is better"}
    signs = [f"{sign} {ways[sign]}" for sign in ways if any(c.better == sign for c in shown)]
    if any(BEST in column.ranks for column in shown):
        signs += [f"{STAR} best"] if stars else ["bold: best", "underlined: second"]
    meanings = [f"{c.title}: {_MEANINGS[c.title]}" for c in shown if c.title in _MEANINGS]
    return "\n".join(", ".join(words) for words in (signs, meanings) if words)


def natural_width(table: Table) -> int:
    """Return how many columns of a terminal a table takes where there are enough."""
    from rich.console import Console
    from rich.measure import Measurement

    console = Console(width=ENOUGH)
    return Measurement.get(console, console.options, table).maximum


def narrow_table() -> Table:
    """Return a table without rows, with little between its columns."""
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False)


def _drawn(shown: Sequence[Column], style: _Style) -> Table:
    from rich.table import Table
    from rich.text import Text

    styles = {0: "", BEST: "bold", SECOND: "underline"}
    intervals = style.intervals
    table = narrow_table() if style.narrow else Table()
    table.add_column(Text(shown[0].title), overflow="fold")
    for column in shown[1:]:
        head = _two_lines(column) if style.narrow else column.head
        table.add_column(Text(head), justify="right", no_wrap=True)
    for i in range(len(shown[0].cells)):
        # Assembled, so that the style ends where the text does and no padding is underlined.
        table.add_row(
            *(
                Text.assemble(
                    (c.cells[i], styles[c.ranks[i]]),
                    _mark(c, i, style.stars),
                    (f"\n{c.intervals[i]}{' ' * _is_marked(c, style.stars)}", "dim")
                    if intervals and c.intervals[i]
                    else "",
                )
                for c in shown
            )
        )
    return table


def _two_lines(column: Column) -> str:
    if column.nu is None:
        return column.head.replace(" ", "\n", 1)
    return f"{printable(column.measure)} {column.better}\n({nu_key(column.nu)})"


def _is_marked(column: Column, stars: bool) -> bool:
    return any(column.close) or (stars and BEST in column.ranks)


def _mark(column: Column, row: int, stars: bool) -> str:
    """What follows a number, where columns stand on the right."""
    if stars and column.ranks[row] == BEST:
        return STAR
    return CLOSE if column.close[row] else " " * _is_marked(column, stars)


def to_markdown(results: Results, *, intervals: bool = False) -> str:
    """Return a Markdown table: best bold, second underlined (as HTML, Markdown has none).

    One of many columns is parted: the measures at each ν, the others, what maps cost.

    Args:
        results: What was measured.
        intervals: Whether the 95% interval of a number stands behind it.
    """
    tables = [_markdown(shown, intervals) for shown in text_tables(results)]
    return "\n\n".join([*tables, markdown_text(caption(results))]) + "\n"


def text_tables(results: Results) -> list[list[Column]]:
    """Return the columns as tables that can be read in a text: none has very many."""
    return columns(results).parted(lambda shown: len(shown) <= _MOST)


def _markdown(shown: Sequence[Column], intervals: bool) -> str:
    marks = {0: "{}", BEST: "**{}**", SECOND: "<u>{}</u>"}

    def cell(c: Column, i: int) -> str:
        interval = f" ({c.intervals[i]})" if intervals and c.intervals[i] else ""
        return marks[c.ranks[i]].format(markdown_text(c.cells[i])) + CLOSE * c.close[i] + interval

    lines = [
        [printable(column.head).replace("|", r"\|") for column in shown],  # a package's may be any
        ["---", *("---:" for _ in shown[1:])],
        *([cell(c, i) for c in shown] for i in range(len(shown[0].cells))),
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def to_csv(results: Results) -> str:
    """Return a line a method and ν, with the bounds of the 95% intervals beside each measure.

    Where methods were compared, the differences to the best row follow, and the measures of one
    number an image (the same in each of a method's lines). What is not defined is empty.
    """
    lines = [_csv_line(results, row, nu) for row in results.rows for nu in row.scores.nu]
    names = list(dict.fromkeys(name for line in lines for name in line))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def _csv_line(results: Results, row: Row, nu: float) -> dict[str, object]:
    at_nu, plain = (
        [(m.name, scores[m.name]) for m in measures if m.name in scores]
        for measures, scores in (
            (results.nu_measures, row.scores.nu[nu]),
            (results.plain_measures, row.scores.plain),
        )
    )
    line: dict[str, object] = {"method": csv_text(row.method), "nu": nu_key(nu)}
    for name, score in at_nu:
        line |= _csv_score(name, score)
    line |= {
        "images": results.images,
        "forward_passes": "" if row.forward_passes is None else row.forward_passes,
        "mean_saliency": f"{row.mean_saliency:.4f}",
        "images_per_second": f"{row.images_per_second:.4f}",
        "mask_space": results.mask_space,
        "keep": results.keep,
    }
    for name, score in at_nu:
        line |= _csv_difference(name, score.to_best)
    for name, score in plain:
        line |= {**_csv_score(name, score), **_csv_difference(name, score.to_best)}
    return line


def _csv_score(name: str, score: Score) -> dict[str, str]:
    low, high = score.ci95 or (None, None)
    values = {name: score.mean, f"{name}_low": low, f"{name}_high": high}
    return {key: "" if value is None else f"{value:.4f}" for key, value in values.items()}


def _csv_difference(name: str, difference: Difference | None) -> dict[str, str]:
    if difference is None:
        return {}
    values = (difference.mean, *difference.ci95)
    keys = (f"{name}_diff_to_best", f"{name}_diff_low", f"{name}_diff_high")
    return {key: f"{value:.4f}" for key, value in zip(keys, values, strict=True)}
