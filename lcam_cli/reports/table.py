"""Results as tables: for the terminal, for Markdown, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lcam_cli.metrics.score import NuScore
from lcam_cli.reports.results import FLOOR, Results, Row, nu_key
from lcam_cli.reports.text import printable

if TYPE_CHECKING:
    from rich.table import Table

BEST, SECOND = 1, 2

CSV_COLUMNS = (
    *("method", "nu", "ad", "ad_low", "ad_high", "ic", "ic_low", "ic_high", "images"),
    *("forward_passes", "mean_saliency", "images_per_second"),
)


@dataclass(frozen=True)
class Column:
    """One column of the paper's Table 1.

    Attributes:
        title: Its head.
        cells: What it shows, a row each.
        ranks: 1 for the best rows, 2 for the second best, 0 for the others.
    """

    title: str
    cells: Sequence[str]
    ranks: Sequence[int]


def columns(results: Results) -> list[Column]:
    """Return the columns: the method, AD and IC at each ν, #FW, the mean of V, and the speed.

    AD (lower is better) and IC (higher is better) are ranked among the methods, without the
    ``random`` row, where there are at least two to rank; equal numbers share a rank.
    """
    rows = results.rows

    def plain(title: str, cell: Callable[[Row], str]) -> Column:
        return Column(title, [cell(row) for row in rows], [0] * len(rows))

    def ranked(title: str, nu: float, value: Callable[[NuScore], float], sign: int) -> Column:
        cells = [f"{value(row.nu[nu]):.2f}" if nu in row.nu else "" for row in rows]
        return Column(title, cells, _ranks(rows, cells, sign))

    measures = []
    for nu in results.nus:
        measures.append(ranked(f"AD({nu_key(nu)})", nu, lambda score: score.ad, sign=1))
        measures.append(ranked(f"IC({nu_key(nu)})", nu, lambda score: score.ic, sign=-1))
    return [
        plain("method", lambda row: printable(row.method)),
        *measures,
        plain("#FW", lambda row: str(row.forward_passes)),
        plain("mean V", lambda row: f"{row.mean_saliency:.3f}"),
        plain("images/s", lambda row: f"{row.images_per_second:.1f}"),
    ]


def _ranks(rows: Sequence[Row], cells: Sequence[str], sign: int) -> list[int]:
    """Rank what is shown, so that cells which look equal are equal; ``sign`` 1 puts low first."""
    rivals = [
        sign * float(cell)
        for row, cell in zip(rows, cells, strict=True)
        if cell and row.method != FLOOR
    ]
    if len(rivals) < 2:
        return [0] * len(rows)
    ranks = dict(zip(sorted(set(rivals)), (BEST, SECOND), strict=False))
    return [
        ranks.get(sign * float(cell), 0) if cell and row.method != FLOOR else 0
        for row, cell in zip(rows, cells, strict=True)
    ]


def caption(results: Results) -> str:
    """Return one line that says what was measured, on what."""
    skipped = f" ({results.skipped} skipped)" if results.skipped else ""
    right = results.accuracy
    accuracy = (
        f"; top-1 {right.top1:.2f}, top-5 {right.top5:.2f} on {right.count} labelled"
        if right is not None
        else ""
    )
    return printable(
        f"{results.backbone}, {results.weights}, {results.layer}; {results.images} images"
        f"{skipped}{accuracy}; {results.precision} on {results.device}"
    )


def to_rich(results: Results) -> Table:
    """Return the table for the terminal: best bold, second underlined."""
    from rich.table import Table
    from rich.text import Text

    styles = {0: "", BEST: "bold", SECOND: "underline"}
    table = Table(caption=Text(caption(results)), caption_justify="left")
    shown = columns(results)
    for column in shown:
        justify = "left" if column is shown[0] else "right"
        table.add_column(Text(column.title), justify=justify)  # type: ignore[arg-type]
    for i in range(len(results.rows)):
        # Assembled, so that the style ends where the text does and no padding is underlined.
        table.add_row(*(Text.assemble((c.cells[i], styles[c.ranks[i]])) for c in shown))
    return table


def to_markdown(results: Results) -> str:
    """Return a Markdown table: best bold, second underlined (as HTML, Markdown has none)."""
    marks = {0: "{}", BEST: "**{}**", SECOND: "<u>{}</u>"}
    shown = columns(results)
    lines = [
        [column.title for column in shown],
        ["---", *("---:" for _ in shown[1:])],
        *(
            [marks[c.ranks[i]].format(_markdown(c.cells[i])) for c in shown]
            for i in range(len(results.rows))
        ),
    ]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{table}\n\n{_markdown(caption(results))}\n"


def _markdown(text: str) -> str:
    """Return the text with what Markdown or HTML would take as markup escaped."""
    return "".join(f"\\{c}" if c in r"\`*_[]<>|" else c for c in text)


def to_csv(results: Results) -> str:
    """Return a line a method and ν, with the bounds of the 95% intervals beside AD and IC."""
    out = io.StringIO()
    lines = [_csv_line(results, row, nu) for row in results.rows for nu in row.nu]
    writer = csv.DictWriter(out, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def _csv_line(results: Results, row: Row, nu: float) -> dict[str, object]:
    score = row.nu[nu]
    measures = (score.ad, *score.ad_ci95, score.ic, *score.ic_ci95)
    values = (
        _csv(row.method),
        nu_key(nu),
        *(f"{value:.4f}" for value in measures),
        results.images,
        row.forward_passes,
        f"{row.mean_saliency:.4f}",
        f"{row.images_per_second:.4f}",
    )
    return dict(zip(CSV_COLUMNS, values, strict=True))


def _csv(name: str) -> str:
    """Return a name that a spreadsheet does not run as a formula."""
    return f"'{printable(name)}" if name.startswith(("=", "+", "-", "@")) else printable(name)
