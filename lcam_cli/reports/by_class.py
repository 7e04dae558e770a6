"""The file of ``--by-class``: the means of every measure over the maps of each class."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lcam_cli.measures.measure import Parts, Quantity
from lcam_cli.measures.scored import ScoredRows
from lcam_cli.reports.columns import UNDEFINED
from lcam_cli.reports.latex import escaped
from lcam_cli.reports.per_image import column_name
from lcam_cli.reports.results import FLOOR
from lcam_cli.reports.text import csv_text, markdown_text, printable

SCHEMA = "lcam-classes/1"


@dataclass
class _Class:
    """Running sums of one class."""

    sums: NDArray[np.float64]  # (methods, J)
    counts: NDArray[np.int64]  # (methods, J): maps with a number
    maps: int = 0
    right: int = 0  # maps of images that the classifier takes for this class


@dataclass
class ByClass:
    """Gathers numbers by class: the true one where it is known, else the class explained.

    Args:
        methods: The methods' names, as the rows that are added have them; ``random`` is left out.
        measured: K quantities, as the rows' numbers are of.
        class_names: The classifier's.
        labels: True classes by row path; None where nobody knows them. Images without one are
            left out.
    """

    methods: Sequence[str]
    measured: Sequence[Quantity]
    class_names: Sequence[str]
    labels: Mapping[str, int] | None = None
    _classes: dict[int, _Class] = field(default_factory=dict)

    def add(self, rows: ScoredRows) -> None:
        """Add the numbers of some rows."""
        for b, path in enumerate(rows.paths):
            index = int(rows.class_index[b]) if self.labels is None else self.labels.get(path, -1)
            if index < 0:
                continue
            numbers = rows.numbers[:, :, b].astype(np.float64)
            there = np.isfinite(numbers)
            if index not in self._classes:
                zeros = np.zeros(numbers.shape)
                self._classes[index] = _Class(zeros, zeros.astype(np.int64))
            one = self._classes[index]
            one.sums += np.where(there, numbers, 0)
            one.counts += there
            one.maps += 1
            one.right += int(rows.predicted_index[b]) == index

    def render(self, format_: str) -> str:
        """Return the table in a format: ``"json"``, ``"csv"``, ``"markdown"`` or ``"latex"``.

        A line a class and method, in the order of the classes.
        """
        formats: Mapping[str, Callable[[], str]] = {
            "json": self._json,
            "csv": self._csv,
            "markdown": self._markdown,
            "latex": self._latex,
        }
        return formats[format_]()

    def _lines(self) -> list[dict[str, Any]]:
        lines = []
        names = [column_name(quantity) for quantity in self.measured]
        for index, one in sorted(self._classes.items()):
            means = np.full(one.sums.shape, np.nan)
            np.divide(one.sums, one.counts, out=means, where=one.counts > 0)
            numbers = Parts(self.measured).summarise(means.T)  # (K, methods)
            for m, method in enumerate(self.methods):
                if method != FLOOR:
                    lines.append(
                        {
                            "class_index": index,
                            "class": self.class_names[index],
                            "method": method,
                            "maps": one.maps,
                            **({} if self.labels is None else {"top1": 100 * one.right / one.maps}),
                            **{name: float(numbers[k, m]) for k, name in enumerate(names)},
                        }
                    )
        return lines

    def _json(self) -> str:
        rows = [
            {key: _number(value, lambda one: round(one, 4), None) for key, value in line.items()}
            for line in self._lines()
        ]
        by = "explained" if self.labels is None else "true"
        content = {"schema": SCHEMA, "by": by, "rows": rows}
        return json.dumps(content, indent=2, allow_nan=False)

    def _csv(self) -> str:
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        lines = self._lines()
        writer.writerow(lines[0] if lines else ["class_index", "class", "method", "maps"])
        for line in lines:
            writer.writerow(_cell(value, csv_text, "", 4) for value in line.values())
        return out.getvalue()

    def _markdown(self) -> str:
        lines = self._lines()
        titles = self._titles()
        table = [titles, ["---", "---", *("---:" for _ in titles[2:])]]
        table += [
            [_cell(v, markdown_text, UNDEFINED, 2) for k, v in line.items() if k != "class_index"]
            for line in lines
        ]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in table) + "\n"

    def _latex(self) -> str:
        titles = self._titles()
        rows = [[escaped(title) for title in titles]] + [
            [
                _cell(v, escaped, escaped(UNDEFINED), 2)
                for k, v in line.items()
                if k != "class_index"
            ]
            for line in self._lines()
        ]
        head, *body = [f"{' & '.join(cells)} \\\\" for cells in rows]
        columns = f"ll{'r' * (len(titles) - 2)}"
        return "\n".join(
            [
                rf"\begin{{tabular}}{{{columns}}}",
                *(r"\hline", head, r"\hline", *body, r"\hline"),
                r"\end{tabular}",
            ]
        )

    def _titles(self) -> list[str]:
        known = [] if self.labels is None else ["top-1"]
        numbers = [
            quantity.measure.title
            if quantity.nu is None
            else f"{quantity.measure.title}({quantity.nu:.10g})"
            for quantity in self.measured
        ]
        return ["class", "method", "maps", *known, *map(printable, numbers)]


def _number(value: Any, show: Callable[[float], Any], lacking: Any) -> Any:
    """A number as it is shown, or what stands for one that is not defined; texts as they are."""
    if not isinstance(value, float):
        return value
    return lacking if np.isnan(value) else show(value)


def _cell(value: Any, text: Callable[[str], str], lacking: str, digits: int) -> str:
    if isinstance(value, str):
        return text(printable(value))
    return str(_number(value, lambda one: f"{one:.{digits}f}", lacking))
