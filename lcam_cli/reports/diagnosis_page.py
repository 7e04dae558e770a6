"""The page of a diagnosis: groups, classes, and every misclassified image with both its maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lcam_cli.maps.display import DISPLAY_NOTE, PERCENTILE
from lcam_cli.measures.diagnose import ExplainedMistake, Mistake
from lcam_cli.measures.error_groups import Group
from lcam_cli.reports.confusion import confusion
from lcam_cli.reports.diagnosis import (
    CSV_COLUMNS,
    DiagnosisReport,
    disagreement,
    few_suspect,
    has_few_suspect,
    headline,
    percent,
    second_opinion,
    to_object,
)
from lcam_cli.reports.entries import ASSETS, PARTS, Entries, colour_gradient, colours_end
from lcam_cli.reports.origin import Origin, alignment_words, written_now
from lcam_cli.reports.page import PageFolder
from lcam_cli.reports.text import printable, short_weights

_DIGITS = 4
_PAIRS_SHOWN = 200


class DiagnosisPage:
    """Writes images as they come, so that memory does not grow with them, and the page last.

    Args:
        folder: The folder of the page; see :class:`PageFolder`.
        size: (H, W) of the network's input.
        origin: The command, and where the images lie.
        of_pixels: Whether the maps are of a method of single pixels, whose colours end at the 99th
            percentile.

    Raises:
        LcamError: It cannot be written to.
    """

    def __init__(
        self,
        folder: Path,
        size: tuple[int, int],
        origin: Origin | None = None,
        *,
        of_pixels: bool = False,
    ) -> None:
        self._origin = origin or Origin()
        self._pages = PageFolder(folder, (*ASSETS, "diagnosis.css", "diagnosis.js"), PARTS)
        self._entries = Entries(self._pages, size)
        self._of_pixels = of_pixels

    def add(self, shown: ExplainedMistake) -> None:
        """Write the next misclassified image: as the network sees it, and both maps.

        Raises:
            LcamError: The disk is full or fails.
        """
        image = self._entries.add_image(shown.view)
        link = self._origin.link(self._pages.path, shown.mistake.path)
        self._entries.add(
            [image, link, *_described(shown.mistake)], [shown.true_map, shown.predicted_map]
        )

    def finish(self, report: DiagnosisReport) -> Path:
        """Write the page itself; return its path.

        Args:
            report: What was found; its mistakes are those that were added, in that order.

        Raises:
            LcamError: The disk is full or fails.
        """
        summary = to_object(report)
        del summary["pictures"]  # the entries are these
        end = PERCENTILE if self._of_pixels else None
        self._entries.finish(
            {
                "percentiles": [end, end],  # of the true and of the predicted class's map
                "classes": {c.class_index: report.name(c.class_index) for c in report.classes},
                "groups": {group.value: group.words for group in Group},
                "second": printable(report.second_method),
                "csv": CSV_COLUMNS,
                "summary": summary,
            }
        )
        counts = confusion(report.diagnosis.pictures, report.diagnosis.mistakes)
        return self._pages.finish(
            "diagnosis.html.j2",
            report=report,
            facts=_facts(report),
            typed=printable(self._origin.command),
            few=few_suspect() if has_few_suspect(report) else "",
            headline=headline(report),
            second=second_opinion(report),
            disagreement=disagreement(report),
            display_note=DISPLAY_NOTE if self._of_pixels else "",
            percent=percent,
            groups=list(Group),
            confusion=counts,
            pairs=counts.pairs[:_PAIRS_SHOWN],
            shade=_shades(counts.counts),
            gradient=colour_gradient(),
            colours_end=colours_end([self._of_pixels]),
        )


def _described(mistake: Mistake) -> list[Any]:
    """What the page's script is to know of an image."""
    found = mistake.evidence
    second = mistake.second_group
    return [
        printable(mistake.path),
        mistake.true,
        mistake.predicted,
        mistake.group.value,
        [
            round(number, _DIGITS)
            for number in (
                found.true_score,
                found.predicted_score,
                found.overlap,
                found.true_kept,
                found.predicted_kept,
            )
        ],
        None if second is None else second.value,
    ]


def _shades(counts: Sequence[Sequence[int]]) -> list[list[int]]:
    """How dark each cell is, 0 to 100: its share of the most errors, and of the most hits."""
    ends = {
        right: max(
            (n for t, row in enumerate(counts) for p, n in enumerate(row) if (t == p) == right),
            default=0,
        )
        for right in (False, True)
    }
    return [
        [round(100 * n / max(ends[t == p], 1)) for p, n in enumerate(row)]
        for t, row in enumerate(counts)
    ]


def _facts(report: DiagnosisReport) -> dict[str, str]:
    """What was diagnosed, with what, by name."""
    rules, diagnosis = report.rules, report.diagnosis
    left_out = [
        f"{count:,} {what}"
        for count, what in ((report.skipped, "skipped"), (report.unlabelled, "without a label"))
        if count
    ]
    facts = {
        "Classifier": report.backbone,
        "Weights": short_weights(report.weights),
        "Layer": report.layer or "none",
        "Method": report.method,
        "Images": f"{diagnosis.images:,}" + (f" ({', '.join(left_out)})" if left_out else ""),
        "Region": f"highest {rules.nu:g}% of a map",
        "Same region": f"overlap (IoU) from {rules.same_region:g}",
        "Evidence": f"from {rules.evidence:g} of the predicted class's score",
        "Maps aligned": alignment_words({report.method: report.tiled}),
        "Computed in": f"{report.precision} on {report.device}",
        "Written": written_now(),
    }
    return {name: printable(value) for name, value in facts.items()}
