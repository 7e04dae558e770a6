"""The report of ``--report DIR``: the table, the curves and a gallery of all images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from lcam_cli.maps.display import DISPLAY_NOTE
from lcam_cli.measures.scored import ScoredBatch
from lcam_cli.methods.registry import is_of_pixels
from lcam_cli.reports.chart import chart
from lcam_cli.reports.columns import BEST, SECOND, UNDEFINED, Column, columns
from lcam_cli.reports.entries import ASSETS, PARTS, colour_gradient, colours_end, reduced_size
from lcam_cli.reports.gallery import Gallery, GalleryInfo
from lcam_cli.reports.nu_key import nu_key
from lcam_cli.reports.origin import alignment_words, written_now
from lcam_cli.reports.page import PageFolder
from lcam_cli.reports.results import FLOOR, Results, to_json
from lcam_cli.reports.table import CLOSE, classless_words, to_csv, undefined_words
from lcam_cli.reports.text import printable

_ASSETS = (*ASSETS, "report.css", "columns.js", "gallery.js")
_RANKS = {0: "", BEST: "best", SECOND: "second"}


@dataclass(frozen=True)
class Cell:
    """One cell of the table.

    Attributes:
        text: What it shows.
        value: What it is sorted by: a number as text, empty where it is unknown, or a name.
        rank: ``"best"``, ``"second"`` or nothing.
        close: Whether it does not differ significantly from the best.
        interval: Its 95% interval in words; empty where there is none.
    """

    text: str
    value: str
    rank: str
    close: bool
    interval: str


class Report:
    """A report being written: rows of its gallery first, the page in the end. A context manager.

    Args:
        folder: Its folder; an earlier report there is replaced.
        command: ``"compare"`` or ``"evaluate"``.
        shown: What all rows of the gallery share.

    Raises:
        LcamError: It cannot be written to.
    """

    def __init__(self, folder: Path, command: str, shown: GalleryInfo) -> None:
        self._command = command
        self._shown = shown
        self._folder = PageFolder(folder, _ASSETS, PARTS)
        self._gallery = Gallery(self._folder, shown)

    def add(self, batch: ScoredBatch) -> None:
        """Write some rows of the gallery.

        Raises:
            LcamError: The disk is full or fails.
        """
        self._gallery.add(batch)

    def finish(self, results: Results) -> Path:
        """Write the page, when all rows have been added.

        Args:
            results: What the table and the curves show.

        Returns:
            The page's path.

        Raises:
            LcamError: The disk is full or fails.
        """
        csv_table, json_table = to_csv(results), to_json(results)
        self._gallery.finish({"csv": csv_table, "json": json_table})
        shown = list(columns(results))
        height, width = reduced_size(self._shown.size)
        return self._folder.finish(
            "report.html.j2",
            command=self._command,
            facts=_facts(results),
            typed=printable(self._shown.origin.command),
            labelled=bool(self._shown.labels),
            gradient=colour_gradient(),
            colours_end=colours_end([is_of_pixels(name) for name in self._shown.methods]),
            backbone=printable(results.backbone),
            images=results.images,
            left_out=[printable(words) for words in undefined_words(results)],
            columns=shown,
            choices=list(dict.fromkeys(column.measure for column in shown[1:])),
            nus=[nu_key(nu) for nu in results.nus],
            cells=table_cells(shown),
            close_mark=CLOSE if any(any(column.close) for column in shown) else "",
            measures=results.measures,
            charts=[chart(results, measure.name) for measure in results.nu_measures]
            if len(results.nus) > 1
            else [],
            methods=len(self._shown.methods) - (self._shown.floor is not None),
            space=results.mask_space,
            keep=results.keep,
            of_pixels=[printable(name) for name in self._shown.methods if is_of_pixels(name)],
            display_note=DISPLAY_NOTE,
            reduced=f"{height}×{width}" if (height, width) != self._shown.size else "",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._gallery.close()


def table_cells(shown: Sequence[Column]) -> list[list[Cell]]:
    """Return the table's cells, a list a method."""
    name = shown[0]
    return [
        [
            Cell(
                column.cells[i],
                column.cells[i]
                if column is name or column.cells[i] not in ("?", UNDEFINED)
                else "",
                _RANKS[column.ranks[i]],
                column.close[i],
                column.intervals[i],
            )
            for column in shown
        ]
        for i in range(len(name.cells))
    ]


def _facts(results: Results) -> dict[str, str]:
    """What was measured, on what, by name."""
    right = results.accuracy
    facts = {
        "Classifier": results.backbone,
        "Weights": results.weights,
        "Layer": results.layer,
        "Images": f"{results.images:,}"
        if not results.skipped
        else f"{results.images:,} ({results.skipped:,} skipped)",
        "Computed in": f"{results.precision} on {results.device}",
    }
    tiled = {row.method: row.tiled for row in results.rows if row.method != FLOOR}
    facts["Maps aligned"] = alignment_words(tiled)
    if words := classless_words(results):
        facts["Methods"] = "; ".join(words)
    if words := undefined_words(results):
        facts["Skipped"] = "; ".join(words)
    if results.keep == "whole":
        facts["Kept pixels"] = "shown whole"
    if right is not None and right.top1 is not None:
        facts["Top-1, top-5"] = f"{right.top1:.2f}%, {right.top5:.2f}% of {right.count:,} labelled"
    facts["Written"] = written_now()
    return {name: printable(value) for name, value in facts.items()}
