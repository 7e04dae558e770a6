"""A sanity check as a table, as CSV, Markdown, LaTeX and the JSON object ``lcam-sanity/1``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lcam_cli.engine.cascade import Stage
from lcam_cli.errors import plural
from lcam_cli.measures.similarity import Similarity
from lcam_cli.reports.columns import UNDEFINED
from lcam_cli.reports.latex import escaped
from lcam_cli.reports.results import FLOOR
from lcam_cli.reports.table import narrow_table, natural_width
from lcam_cli.reports.text import (
    csv_text,
    markdown_text,
    printable,
    short_weights,
    tiled_words,
)
from lcam_cli.version import __version__

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from lcam_cli.maps.record import Tiled

SCHEMA = "lcam-sanity/1"

HARDLY_MOVES = 0.5
"""A mean rank correlation above this at the last stage marks a method."""


@dataclass(frozen=True)
class SanityRow:
    """One method's similarities.

    Attributes:
        method: Its name.
        stages: Of its maps to the first ones, one a stage, in the order in which they were drawn.
        other_class: Of its maps of the second-best class; None where the network knows one class.
        align: Whether its maps are placed by the receptive fields of their cells.
        tiled: Why its cells tile the image; None where they do not, or there are none.
    """

    method: str
    stages: Sequence[Similarity]
    other_class: Similarity | None
    align: bool = False
    tiled: Tiled | None = None

    @property
    def last(self) -> float | None:
        """The mean at the last stage; None where it is not defined."""
        return self.stages[-1].mean

    @property
    def moves(self) -> bool | None:
        """Whether its maps change with the network; None where that is not known."""
        return None if self.last is None else self.last <= HARDLY_MOVES

    @property
    def verdict(self) -> str:
        """What is to be said of it, in words; empty where its maps change."""
        if self.method == FLOOR:
            return "does not use the network"
        return {None: "not defined", False: "hardly moves", True: ""}[self.moves]


@dataclass(frozen=True)
class SanityReport:
    """What was found, on what, with what.

    Attributes:
        backbone: The classifier's name.
        weights: The weights' name, or ``sha256:…`` of their file.
        layer: The module whose output is A.
        images: How many images were compared.
        skipped: How many were left out.
        seed: Of the weights drawn.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        device: The device's name.
        stages: Which layers were drawn anew together, from the logits back.
        rows: One a method.
    """

    backbone: str
    weights: str
    layer: str
    images: int
    skipped: int
    seed: int
    precision: str
    device: str
    stages: Sequence[Stage]
    rows: Sequence[SanityRow]

    def missed_gates(self, max_similarity: float | None) -> list[str]:
        """Return a message for every method that is more similar at the last stage than allowed.

        Noise is not held to it. What is not defined misses it.

        Args:
            max_similarity: The highest mean allowed; None asks for nothing.
        """
        if max_similarity is None:
            return []
        missed = []
        for row in self.rows:
            if row.method == FLOOR:
                continue
            if row.last is None:
                missed.append(
                    f"{row.method}: the similarity at the last stage is not defined, so it "
                    f"cannot be shown to be at most {max_similarity:g}"
                )
            elif row.last > max_similarity:
                missed.append(
                    f"{row.method}: with all weights randomised the similarity is "
                    f"{row.last:.4f}, above {max_similarity:g}"
                )
        return missed


def left_out_words(report: SanityReport) -> list[str]:
    """Return what is said of images that some method has no rank correlation of."""
    words = []
    for kind, what in (
        ("flat", "flat maps have no rank correlation and are skipped"),
        ("failed", "maps that are missing or not finite are skipped"),
    ):
        most = {
            row.method: max(getattr(one, kind) for one in (*row.stages, *_other(row)))
            for row in report.rows
        }
        listed = [f"{printable(name)} {count}" for name, count in most.items() if count]
        if listed:
            words.append(
                f"{what} (most in one column, of {plural(report.images, 'image')}: "
                f"{', '.join(listed)})"
            )
    return words


def _other(row: SanityRow) -> list[Similarity]:
    return [] if row.other_class is None else [row.other_class]


def caption(report: SanityReport) -> str:
    """Return one line that says what was compared, with what."""
    skipped = f" ({report.skipped} skipped)" if report.skipped else ""
    left_out = "".join(f"; {words}" for words in left_out_words(report))
    tiled = "".join(f"; {one}" for one in tiled_words({r.method: r.tiled for r in report.rows}))
    stuck = [row.method for row in report.rows if row.verdict == "hardly moves"]
    marked = (
        f"; hardly moves: above {HARDLY_MOVES:g} with all weights randomised, so its maps say "
        "little about what this network has learned"
        if stuck
        else ""
    )
    floor = (
        f"; {FLOOR} is made only from the image and the class, so it stays at 1, like any method "
        "that does not use the network"
        if any(row.method == FLOOR for row in report.rows)
        else ""
    )
    return printable(
        "Spearman's rank correlation with the map of the network as trained (95% bootstrap "
        "interval), after weights were randomised down to each stage; "
        f"{report.backbone}, {short_weights(report.weights)}, {report.layer or 'no layer'}; "
        f"{plural(report.images, 'image')}{skipped}{left_out}; seed {report.seed}; "
        f"{report.precision} on {report.device}{tiled}{marked}{floor}"
    )


def to_rich(report: SanityReport, width: int | None = None) -> RenderableType:
    """Return the table for the terminal.

    Args:
        report: What was found.
        width: Columns of the terminal. Where the table is wider, it is parted: nothing is cut.
    """
    from rich.console import Group
    from rich.text import Text

    titles = [title.replace(" to ", "\nto ") for title in _titles(report)]
    columns = list(zip(titles, *_grid(report, "\n"), strict=True))
    name, rest = columns[0], columns[1:]
    below = Text(caption(report))
    narrow = width is not None and natural_width(_drawn(columns)) > width
    for at_once in range(len(rest), 0, -1):
        parts = [rest[i : i + at_once] for i in range(0, len(rest), at_once)]
        tables = [_drawn([name, *part], narrow=narrow) for part in parts]
        if width is None or all(natural_width(table) <= width for table in tables):
            break
    return Group(*tables, below)


def _drawn(columns: Sequence[Sequence[str]], *, narrow: bool = False) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = narrow_table() if narrow else Table()
    (first, *names), *rest = columns
    table.add_column(Text(first), overflow="fold")
    for title, *_ in rest:
        table.add_column(Text(title), justify="right", no_wrap=True)
    for i, name in enumerate(names):
        table.add_row(Text(name), *(Text(column[i + 1]) for column in rest))
    return table


def to_markdown(report: SanityReport) -> str:
    """Return a Markdown table."""
    titles = _titles(report)
    lines = [
        [markdown_text(title) for title in titles],
        ["---", *("---:" for _ in titles[1:-1]), "---"],
        *([markdown_text(cell) for cell in row] for row in _grid(report, " ")),
    ]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{table}\n\n{markdown_text(caption(report))}\n"


def to_latex(report: SanityReport) -> str:
    """Return a ``tabular`` that needs no package."""
    titles = _titles(report)
    lines = [
        f"% {caption(report)}",
        rf"\begin{{tabular}}{{l{'r' * (len(titles) - 2)}l}}",
        r"\hline",
        _latex_line(titles),
        r"\hline",
        *(_latex_line(row) for row in _grid(report, " ")),
        r"\hline",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _latex_line(cells: Sequence[str]) -> str:
    return f"{' & '.join(escaped(cell) for cell in cells)} \\\\"


def to_csv(report: SanityReport) -> str:
    """Return a line a method and stage, and one a method for the other class (stage empty)."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        (
            *("method", "stage", "first_layer", "last_layer", "similarity", "low", "high"),
            *("images", "flat_maps", "failed"),
        )
    )
    for row in report.rows:
        name = csv_text(row.method)
        for i, (stage, one) in enumerate(zip(report.stages, row.stages, strict=True), 1):
            ends = (csv_text(stage.layers[0]), csv_text(stage.layers[-1]))
            writer.writerow((name, i, *ends, *_csv_numbers(one)))
        for one in _other(row):
            writer.writerow((name, "", "other class", "", *_csv_numbers(one)))
    return out.getvalue()


def _csv_numbers(one: Similarity) -> tuple[object, ...]:
    values = (one.mean, *(one.ci95 or (None, None)))
    shown = ("" if value is None else f"{value + 0.0:.4f}" for value in values)
    return (*shown, one.images, one.flat, one.failed)


def to_json(report: SanityReport) -> str:
    """Return the ``lcam-sanity/1`` object; numbers have four decimals, keys a fixed order."""
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "backbone": report.backbone,
        "weights": report.weights,
        "layer": report.layer,
        "images": report.images,
        "skipped": report.skipped,
        "seed": report.seed,
        "precision": report.precision,
        "device": report.device,
        "stages": [{"name": stage.name, "layers": list(stage.layers)} for stage in report.stages],
        "rows": [
            {
                "method": row.method,
                "stages": [_json(one) for one in row.stages],
                "other_class": None if row.other_class is None else _json(row.other_class),
                "moves": row.moves,
                "verdict": row.verdict,
                "align": row.align,
            }
            for row in report.rows
        ],
        "lcam_version": __version__,
    }
    return json.dumps(content, indent=2, allow_nan=False)


def _json(one: Similarity) -> dict[str, Any]:
    return {
        "similarity": None if one.mean is None else _rounded(one.mean),
        "ci95": None if one.ci95 is None else [_rounded(bound) for bound in one.ci95],
        "images": one.images,
        "flat_maps": one.flat,
        "failed": one.failed,
    }


def _rounded(value: float) -> float:
    return round(value, 4) + 0.0  # never -0.0


TEXT_FORMATS: dict[str, Callable[[SanityReport], str]] = {
    "json": to_json,
    "csv": to_csv,
    "markdown": to_markdown,
    "latex": to_latex,
}


def _titles(report: SanityReport) -> list[str]:
    stages = [printable(stage.name) for stage in report.stages]
    return ["method", *stages, "other class", "verdict"]


def _grid(report: SanityReport, between: str) -> list[list[str]]:
    """The cells of all rows; ``between`` stands between a mean and its interval."""
    return [
        [
            printable(row.method),
            *(_cell(one, between) for one in row.stages),
            UNDEFINED if row.other_class is None else _cell(row.other_class, between),
            row.verdict,
        ]
        for row in report.rows
    ]


def _cell(one: Similarity, between: str) -> str:
    if one.mean is None:
        return UNDEFINED
    shown = _two_decimals(one.mean)
    if one.ci95 is None:
        return shown
    low, high = map(_two_decimals, one.ci95)
    return f"{shown}{between}({low} to {high})"


def _two_decimals(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"
