"""A diagnosis as tables, as CSV and as the JSON object ``lcam-diagnosis/1``."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lcam_cli.errors import plural
from lcam_cli.measures.diagnose import Diagnosis, Mistake
from lcam_cli.measures.error_groups import Group, Rules
from lcam_cli.measures.suspicion import ClassErrors, class_errors
from lcam_cli.reports.table import narrow_table, natural_width
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

    from lcam_cli.maps.record import Tiled

SCHEMA = "lcam-diagnosis/1"

_CLASSES_SHOWN = 15
_COMMON = 3
_HEADS = (12, 8, 1)  # characters in a line of a narrow table's heads: the first that fits
_OF_OTHERS = ("false alarms", f"false alarms {Group.SEVERAL.words}")
_CLASS_COLUMNS = (
    *("class", "suspicion", "suspect images", "images", "recall"),
    *(group.words for group in Group),
    "taken for",
    *_OF_OTHERS,
)
FEW_SUSPECT = 3
"""Of fewer suspect images, the order of suspicion is that of chance."""
MANY_MOVE = 0.1
"""The share of errors in [0, 1] from which it is a warning that a second method moves them."""


@dataclass(frozen=True)
class DiagnosisReport:
    """What was found, on what, with what.

    Attributes:
        backbone: The classifier's name.
        weights: The weights' name, or ``sha256:…`` of their file.
        layer: The module whose output is A.
        method: How the maps were made.
        class_names: R names.
        rules: What the groups were told by.
        diagnosis: What was found.
        skipped: Images that could not be read.
        unlabelled: Images left out because their class is not known.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        device: The device's name.
        tiled: Why the maps' cells tile the image; None where they do not, or there are none.
        second_method: What sorted the errors once more; empty where nothing did.
    """

    backbone: str
    weights: str
    layer: str
    method: str
    class_names: Sequence[str]
    rules: Rules
    diagnosis: Diagnosis
    skipped: int
    unlabelled: int
    precision: str
    device: str
    tiled: Tiled | None = None
    second_method: str = ""

    @cached_property
    def classes(self) -> list[ClassErrors]:
        """The classes that are in some mistake, most suspicious first."""
        return class_errors(self.diagnosis.pictures, self.diagnosis.mistakes)

    @cached_property
    def groups(self) -> dict[Group, int]:
        """How many images each group has."""
        return {group: sum(m.group is group for m in self.diagnosis.mistakes) for group in Group}

    def share(self, group: Group) -> float:
        """The group's share of the misclassified images, in [0, 1]; 0 where there are none."""
        return self.groups[group] / max(len(self.diagnosis.mistakes), 1)

    @property
    def moved(self) -> int:
        """How many misclassified images the second method puts into another group."""
        return sum(m.moves for m in self.diagnosis.mistakes)

    def name(self, class_index: int) -> str:
        """A class's name, fit for a line."""
        return printable(self.class_names[class_index])


def headline(report: DiagnosisReport) -> str:
    """Return one line that says what was found."""
    found = report.diagnosis
    wrong = len(found.mistakes)
    if not wrong:
        return f"no misclassified image among {plural(found.images, 'image')}"
    right = 100 * (1 - wrong / found.images)
    parts = ", ".join(
        f"{report.groups[group]} {group.words} ({report.share(group):.0%})" for group in Group
    )
    return f"{wrong} of {plural(found.images, 'image')} misclassified (top-1 {right:.2f}%): {parts}"


def second_opinion(report: DiagnosisReport) -> str:
    """Return how far a second method agrees on the groups; empty where there is none."""
    wrong = len(report.diagnosis.mistakes)
    if not (report.second_method and wrong):
        return ""
    return printable(
        f"{report.second_method} puts {report.moved} of {plural(wrong, 'misclassified image')} "
        f"({report.moved / wrong:.0%}) into another group than {report.method}"
    )


def disagreement(report: DiagnosisReport) -> str:
    """Return the warning that the groups depend on the method; empty where few errors move."""
    if report.moved < MANY_MOVE * max(len(report.diagnosis.mistakes), 1) or not report.moved:
        return ""
    return f"{second_opinion(report)}: the groups depend on the method"


def caption(report: DiagnosisReport) -> str:
    """Return one line that says with what it was found."""
    rules = report.rules
    left_out = [
        f"{count} {what}"
        for count, what in ((report.skipped, "skipped"), (report.unlabelled, "without a label"))
        if count
    ]
    without = f" ({', '.join(left_out)})" if left_out else ""
    tiled = "".join(f"; {words}" for words in tiled_words({report.method: report.tiled}))
    return printable(
        f"{report.method} on {report.backbone}, {short_weights(report.weights)}, "
        f"{report.layer or 'no layer'}; "
        f"{plural(report.diagnosis.images, 'image')}{without}; "
        f"regions {rules.nu:g}%, same from {rules.same_region:g}, evidence from "
        f"{rules.evidence:g}; {report.precision} on {report.device}{tiled}"
    )


def to_rich(report: DiagnosisReport, width: int | None = None) -> RenderableType:
    """Return what the terminal shows: the classes most suspected of a bias.

    Args:
        report: What was found.
        width: Columns of the terminal. Where the table is wider, it is parted: nothing is cut.
    """
    from rich.console import Group as Together
    from rich.text import Text

    shown = report.classes[:_CLASSES_SHOWN]
    hidden = len(report.classes) - len(shown)
    below = [caption(report)]
    if words := second_opinion(report):
        below.append(words)
    if has_few_suspect(report):
        below.append(few_suspect())
    if hidden:
        below.append(f"and {hidden} more classes: --format markdown lists all")
    head, foot = Text(headline(report)), Text("\n".join(below))
    if not shown:
        return Together(head, foot)
    whole = _drawn(report, shown, _CLASS_COLUMNS)
    if width is None or natural_width(whole) <= width:
        return Together(head, whole, foot)
    groups = [group.words for group in Group]
    first = [title for title in _CLASS_COLUMNS if title not in (*groups, *_OF_OTHERS)]
    second = ["class", *groups, *_OF_OTHERS]
    for heads in _HEADS:
        parts = [_drawn(report, shown, titles, heads=heads) for titles in (first, second)]
        if all(natural_width(part) <= width for part in parts):
            break
    return Together(head, *parts, foot)


def has_few_suspect(report: DiagnosisReport) -> bool:
    """Whether even the class that leads has too few suspect images to lead for a reason."""
    return bool(report.classes) and report.classes[0].signs < FEW_SUSPECT


def few_suspect() -> str:
    """Return what is said where no class has enough suspect images to lead for a reason."""
    return (
        f"no class has {FEW_SUSPECT} suspect images: this order means little yet; "
        "diagnose more images of each class"
    )


def _drawn(
    report: DiagnosisReport,
    shown: Sequence[ClassErrors],
    titles: Sequence[str],
    *,
    heads: int = 0,
) -> Table:
    """A table; a narrow one whose heads have lines of ``heads`` characters, unless that is 0."""
    from rich.table import Table
    from rich.text import Text

    table = narrow_table() if heads else Table()
    for title in titles:
        if title in ("class", "taken for"):  # words may go on in the next line, a number not
            table.add_column(Text(title), overflow="fold")
        else:
            head = "\n".join(_lines(title, heads or 1))
            table.add_column(Text(head), justify="right", no_wrap=True)
    for row in shown:
        cells = dict(zip(_CLASS_COLUMNS, _cells(report, row), strict=True))
        table.add_row(*(Text(cells[title]) for title in titles))
    return table


def _lines(title: str, width: int) -> list[str]:
    """A title in lines of so many characters; a longer word has a line to itself."""
    return textwrap.wrap(title, width, break_long_words=False, break_on_hyphens=False)


def to_markdown(report: DiagnosisReport) -> str:
    """Return the groups, all classes and all misclassified images as Markdown."""
    parts = [headline(report)]
    if report.diagnosis.mistakes:
        groups = [
            [group.words, str(report.groups[group]), f"{report.share(group):.1%}"]
            for group in Group
        ]
        images = [
            [
                printable(m.path),
                report.name(m.true),
                report.name(m.predicted),
                m.group.words,
                *(f"{value:.3f}" for value in _numbers(m).values()),
            ]
            for m in report.diagnosis.mistakes
        ]
        parts += [
            _markdown_table(("group", "images", "share"), groups),
            _markdown_table(
                (*_CLASS_COLUMNS, "suspect images are"),
                [[*_cells(report, row), _shown_by(row)] for row in report.classes],
            ),
            _markdown_table(("image", "true", "predicted", "group", *_NUMBERS), images),
        ]
    notes = [words for words in (caption(report), second_opinion(report)) if words]
    return "\n\n".join([*parts, *map(markdown_text, notes)]) + "\n"


def to_csv(report: DiagnosisReport) -> str:
    """Return a line a misclassified image."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for m in report.diagnosis.mistakes:
        names = (csv_text(text) for text in (m.path, report.name(m.true), report.name(m.predicted)))
        numbers = (f"{value:.4f}" for value in _numbers(m).values())
        writer.writerow((*names, m.group.value, *numbers, _second_group(m) or ""))
    return out.getvalue()


def to_json(report: DiagnosisReport) -> str:
    """Return the ``lcam-diagnosis/1`` object; numbers have four decimals, keys a fixed order."""
    return json.dumps(to_object(report), indent=2, allow_nan=False)


def to_object(report: DiagnosisReport) -> dict[str, Any]:
    """Return what :func:`to_json` writes; its images come last."""
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "backbone": report.backbone,
        "weights": report.weights,
        "layer": report.layer,
        "method": report.method,
        "rules": {
            "nu": report.rules.nu,
            "same_region": report.rules.same_region,
            "evidence": report.rules.evidence,
        },
        "images": report.diagnosis.images,
        "skipped": report.skipped,
        "unlabelled": report.unlabelled,
        "misclassified": len(report.diagnosis.mistakes),
        "flat_maps": report.diagnosis.flat_maps,
        "precision": report.precision,
        "device": report.device,
        "groups": {
            group.value: {"pictures": count, "share": round(report.share(group), 4)}
            for group, count in report.groups.items()
        },
        "classes": [_class_json(report, row) for row in report.classes],
    }
    if report.second_method:
        content["second_method"] = {"method": report.second_method, "other_group": report.moved}
    content["pictures"] = [_image_json(report, m) for m in report.diagnosis.mistakes]
    return content


TEXT_FORMATS: dict[str, Callable[[DiagnosisReport], str]] = {
    "json": to_json,
    "csv": to_csv,
    "markdown": to_markdown,
}


def percent(share: float | None) -> str:
    """Return a share in [0, 1] as shown; nothing where it is not known."""
    return "" if share is None else f"{100 * share:.1f}"


def _image_json(report: DiagnosisReport, mistake: Mistake) -> dict[str, Any]:
    content: dict[str, Any] = {
        "path": mistake.path,
        "true": report.class_names[mistake.true],
        "true_index": mistake.true,
        "predicted": report.class_names[mistake.predicted],
        "predicted_index": mistake.predicted,
        "group": mistake.group.value,
        **{name: round(value, 4) for name, value in _numbers(mistake).items()},
    }
    if report.second_method:
        content["second_group"] = _second_group(mistake)
    return content


def _second_group(mistake: Mistake) -> str | None:
    return None if mistake.second_group is None else mistake.second_group.value


def _class_json(report: DiagnosisReport, row: ClassErrors) -> dict[str, Any]:
    return {
        "class": report.class_names[row.class_index],
        "index": row.class_index,
        "suspicion": round(row.suspicion, 4),
        "signs": row.signs,
        "involved": row.involved,
        "pictures": row.pictures,
        "recall": None if row.recall is None else round(row.recall, 4),
        "errors": row.errors,
        "groups": {group.value: count for group, count in row.groups.items()},
        "mistaken_for": [
            {"class": report.class_names[c], "index": c, "pictures": count}
            for c, count in row.mistaken_for
        ],
        "false_alarms": row.false_alarms,
        "lured": row.lured,
        "shown_by": [m.path for m in row.shown_by],
    }


def _cells(report: DiagnosisReport, row: ClassErrors) -> list[str]:
    common = [f"{report.name(c)} {count}" for c, count in row.mistaken_for[:_COMMON]]
    return [
        report.name(row.class_index),
        f"{row.suspicion:.3f}",
        f"{row.signs} of {row.involved}",
        str(row.pictures),
        percent(row.recall),
        *(str(row.groups[group]) for group in Group),
        ", ".join(common) + (", …" if len(row.mistaken_for) > _COMMON else ""),
        str(row.false_alarms),
        str(row.lured),
    ]


def _shown_by(row: ClassErrors) -> str:
    """The first images that speak for a bias."""
    paths = [printable(m.path) for m in row.shown_by[:_COMMON]]
    return ", ".join(paths) + (", …" if len(row.shown_by) > _COMMON else "")


_NUMBERS = ("true_score", "predicted_score", "overlap", "true_kept", "predicted_kept")
CSV_COLUMNS = ("path", "true", "predicted", "group", *_NUMBERS, "second_group")


def _numbers(mistake: Mistake) -> dict[str, float]:
    """What an image's group was told by, under the names of the columns."""
    return {name: getattr(mistake.evidence, name) for name in _NUMBERS}


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([markdown_text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
