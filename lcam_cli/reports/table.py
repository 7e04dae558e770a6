"""Results as tables: for the terminal, for Markdown, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lcam_cli.measures.measure import NO_NUMBERS, Measure
from lcam_cli.measures.score import Difference, Score
from lcam_cli.reports.results import FLOOR, Results, Row, nu_key
from lcam_cli.reports.text import (
    csv_text,
    markdown_text,
    plural,
    printable,
    short_weights,
    tiled_words,
)

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

BEST, SECOND = 1, 2

_ENOUGH = 10_000  # columns of a terminal

CLOSE = "≈"
"""Stands behind a number that does not differ significantly from the best of its column."""

UNDEFINED = "–"
"""Stands where a measure is defined for no picture."""

_ITSELF = (0.0, 0.0)  # the interval of the best row's difference to itself


@dataclass(frozen=True)
class Column:
    """One column of the paper's Table 1.

    Attributes:
        title: Its head.
        cells: What it shows, a row each.
        ranks: 1 for the best rows, 2 for the second best, 0 for the others.
        close: Which rows do not differ significantly from the best one.
        intervals: The 95% intervals, as they are shown; empty text where there is none.
    """

    title: str
    cells: Sequence[str]
    ranks: Sequence[int]
    close: Sequence[bool]
    intervals: Sequence[str]


@dataclass(frozen=True)
class _RankedCell:
    """A number that rows are ranked by, its interval, and how far it is from the best row's."""

    shown: str
    interval: str
    to_best: Difference | None

    @classmethod
    def of(cls, score: Score | None, digits: int) -> _RankedCell:
        if score is None:  # the row lacks it
            return cls("", "", None)
        if score.mean is None or score.ci95 is None:
            return cls(UNDEFINED, "", None)
        low, high = (f"{bound:.{digits}f}" for bound in score.ci95)
        return cls(f"{score.mean:.{digits}f}", f"{low} to {high}", score.to_best)


def columns(results: Results) -> list[Column]:
    """Return the columns: the method, the measures at each ν, the others, #FW, mean of V, speed.

    Where some map is flat, their numbers have a column too.

    Measures are ranked among the methods, without the ``random`` row, where there are at least two
    to rank; equal numbers share a rank.
    """
    rows = results.rows

    def plain(title: str, cell: Callable[[Row], str]) -> Column:
        cells, n = [cell(row) for row in rows], len(rows)
        return Column(title, cells, [0] * n, [False] * n, [""] * n)

    def ranked(title: str, measure: Measure, scores: Sequence[Score | None]) -> Column:
        found = [_RankedCell.of(score, measure.digits) for score in scores]
        cells = [one.shown for one in found]
        ranks = _ranks(rows, cells, sign=1 if measure.lower_is_better else -1)
        return Column(title, cells, ranks, _close(found, ranks), [one.interval for one in found])

    measured = [
        ranked(
            f"{measure.title}({nu_key(nu)})",
            measure,
            [row.scores.nu.get(nu, {}).get(measure.name) for row in rows],
        )
        for nu in results.nus
        for measure in results.nu_measures
    ]
    measured += [
        ranked(measure.title, measure, [row.scores.plain.get(measure.name) for row in rows])
        for measure in results.plain_measures
    ]
    some_flat = any(row.flat_maps for row in rows)
    return [
        plain("method", lambda row: printable(row.method)),
        *measured,
        plain("#FW", lambda row: "?" if row.forward_passes is None else str(row.forward_passes)),
        plain("mean V", lambda row: f"{row.mean_saliency:.3f}"),
        *([plain("flat", lambda row: str(row.flat_maps or 0))] if some_flat else []),
        plain(f"{results.speed}/s", lambda row: f"{row.images_per_second:.1f}"),
    ]


def _close(found: Sequence[_RankedCell], ranks: Sequence[int]) -> list[bool]:
    """Which rows, beside the best, have a difference to it whose interval covers 0.

    The best itself, and what is equal to it on every image, stands out by its rank; the floor,
    which has none, is marked.
    """
    best = {one.shown for one, rank in zip(found, ranks, strict=True) if rank == BEST}
    return [
        rank != BEST
        and one.to_best is not None
        and not one.to_best.significant
        and (one.to_best.ci95 != _ITSELF or one.shown in best)
        for one, rank in zip(found, ranks, strict=True)
    ]


def _ranks(rows: Sequence[Row], cells: Sequence[str], sign: int) -> list[int]:
    """Rank what is shown, so that cells which look equal are equal; ``sign`` 1 puts low first."""
    ranked = [
        cell not in ("", UNDEFINED) and row.method != FLOOR
        for row, cell in zip(rows, cells, strict=True)
    ]
    rivals = [sign * float(cell) for cell, one in zip(cells, ranked, strict=True) if one]
    if len(rivals) < 2:
        return [0] * len(rows)
    ranks = dict(zip(sorted(set(rivals)), (BEST, SECOND), strict=False))
    return [
        ranks.get(sign * float(cell), 0) if one else 0
        for cell, one in zip(cells, ranked, strict=True)
    ]


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
        f"; {CLOSE}: no significant difference to the best (95%, same images)"
        if any(any(column.close) for column in columns(results))
        else ""
    )
    tiled = "".join(f"; {words}" for words in placing_words(results))
    hidden = "; hidden with the mean colour" if results.mask_space == "normalized" else ""
    return printable(
        f"{results.backbone}, {short_weights(results.weights)}, {results.layer or 'no layer'}; "
        f"{plural(results.images, 'image')}{skipped}{left_out}{accuracy}{hidden}; "
        f"{results.precision} on {results.device}{tiled}{close}"
    )


def placing_words(results: Results) -> list[str]:
    """Return what is said of rows whose cells are not placed by their receptive fields, if any."""
    return tiled_words({row.method: row.tiled for row in results.rows if row.method != FLOOR})


def undefined_words(results: Results) -> list[str]:
    """Return what is said of each measure that is undefined for some maps."""
    counts = results.undefined or {}
    return [
        f"{measure.title}: "
        + (measure.left_out or NO_NUMBERS).format(maps=plural(counts[measure.name], "map"))
        for measure in results.measures
        if counts.get(measure.name)
    ]


def to_rich(results: Results, width: int | None = None) -> RenderableType:
    """Return the table for the terminal: best bold, second underlined.

    Args:
        results: What was measured.
        width: Columns of the terminal. Where the table is wider, it is parted: nothing is cut.
    """
    from rich.console import Group
    from rich.text import Text

    shown = columns(results)
    below = Text(caption(results))
    whole = _drawn(shown, below)
    if width is None or natural_width(whole) <= width:
        return whole
    name, rest = shown[0], shown[1:]
    together = len(results.nu_measures)  # those at one ν
    at_nus = together * len(results.nus)
    parts = [rest[i : i + together] for i in range(0, at_nus, together)]
    plain = at_nus + len(results.plain_measures)
    parts += [rest[at_nus:plain], rest[plain:]]
    tables = [_drawn([name, *part]) for part in parts if part]
    return Group(*tables, below)


def natural_width(table: Table) -> int:
    """Return how many columns of a terminal a table takes where there are enough."""
    from rich.console import Console
    from rich.measure import Measurement

    console = Console(width=_ENOUGH)
    return Measurement.get(console, console.options, table).maximum


def _drawn(shown: Sequence[Column], below: Text | None = None) -> Table:
    from rich.table import Table
    from rich.text import Text

    styles = {0: "", BEST: "bold", SECOND: "underline"}
    table = Table(caption=below, caption_justify="left")
    table.add_column(Text(shown[0].title), overflow="fold")
    for column in shown[1:]:
        table.add_column(Text(column.title), justify="right", no_wrap=True)
    for i in range(len(shown[0].cells)):
        # Assembled, so that the style ends where the text does and no padding is underlined.
        table.add_row(
            *(Text.assemble((c.cells[i], styles[c.ranks[i]]), _mark(c, i)) for c in shown)
        )
    return table


def _mark(column: Column, row: int) -> str:
    """What follows a number on the terminal, where columns stand on the right."""
    return CLOSE if column.close[row] else " " * any(column.close)


def to_markdown(results: Results) -> str:
    """Return a Markdown table: best bold, second underlined (as HTML, Markdown has none)."""
    marks = {0: "{}", BEST: "**{}**", SECOND: "<u>{}</u>"}
    shown = columns(results)
    lines = [
        [column.title for column in shown],
        ["---", *("---:" for _ in shown[1:])],
        *(
            [
                marks[c.ranks[i]].format(markdown_text(c.cells[i])) + CLOSE * c.close[i]
                for c in shown
            ]
            for i in range(len(results.rows))
        ),
    ]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{table}\n\n{markdown_text(caption(results))}\n"


def to_csv(results: Results) -> str:
    """Return a line a method and ν, with the bounds of the 95% intervals beside each measure.

    Where methods were compared, the differences to the best row follow, and the measures of one
    number a picture (the same in each of a method's lines). What is not defined is empty.
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
