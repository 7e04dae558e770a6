"""AD and IC of every single image, to compare two runs image by image."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lcam_cli.measures.measure import Quantity
from lcam_cli.measures.scored import ScoredRows
from lcam_cli.reports.per_image import column_name
from lcam_cli.reports.text import csv_text

GATED = ("ad", "ic")
"""The measures that gates are for."""


class ImageNumbers:
    """Numbers of images, by method; where several classes are explained, their mean counts.

    Args:
        columns: What the numbers are, as ``--per-image`` names its columns: ``"ad_50"``. K of them.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = list(columns)
        self._sums: dict[str, dict[str, NDArray[np.float64]]] = {}  # (2, K): sums, counts

    def enter(self, method: str, path: str, numbers: NDArray[np.float64]) -> None:
        """Add a map's numbers, (K,); NaN where there is none."""
        images = self._sums.setdefault(method, {})
        there = np.isfinite(numbers)
        added = np.stack([np.where(there, numbers, 0), there])
        images[path] = images[path] + added if path in images else added

    def methods(self) -> list[str]:
        """The methods' names."""
        return list(self._sums)

    def paths(self, method: str) -> set[str]:
        """The images of a method, as ``--per-image`` names them."""
        return set(self._sums.get(method, {}))

    def of(self, method: str, column: str, paths: Sequence[str]) -> NDArray[np.float64]:
        """Return the numbers of some images, (N,); NaN where one has none."""
        k = self.columns.index(column)
        sums = np.array([self._sums[method][path][:, k] for path in paths]).reshape(-1, 2)
        means = np.full(len(sums), np.nan)
        np.divide(sums[:, 0], sums[:, 1], out=means, where=sums[:, 1] > 0)
        return means


class GatheredNumbers(ImageNumbers):
    """The numbers of the run that is under way.

    Args:
        methods: Their names, as the rows that are added have them.
        measured: What is measured; :data:`GATED` at each ν is kept.
    """

    def __init__(self, methods: Sequence[str], measured: Sequence[Quantity]) -> None:
        self._names = list(methods)
        self._measured = measured
        self._kept = [k for k, one in enumerate(measured) if one.measure.name in GATED]
        super().__init__([column_name(measured[k]) for k in self._kept])

    def add(self, rows: ScoredRows) -> None:
        """Add the numbers of some rows."""
        numbers = rows.of_quantities(self._measured)[self._kept]
        for m, method in enumerate(self._names):
            for b, path in enumerate(rows.paths):
                self.enter(csv_text(method), csv_text(path), numbers[:, m, b])


def read_image_numbers(file: Path) -> ImageNumbers:
    """Read AD and IC from a CSV file of ``--per-image``.

    Raises:
        ValueError: It is no such file.
        OSError: It cannot be read.
    """
    with file.open(encoding="utf-8", newline="") as text:
        lines = csv.DictReader(text)
        names = [n for n in lines.fieldnames or () if n.split("_")[0] in GATED and "_" in n]
        if not names or not {"path", "method"} <= set(lines.fieldnames or ()):
            raise ValueError("it has no columns path, method and ad_…")
        found = ImageNumbers(names)
        try:
            for line in lines:
                numbers = np.array([float(line[name] or "nan") for name in names])
                found.enter(line["method"], line["path"], numbers)
        except (TypeError, csv.Error) as error:
            raise ValueError(str(error)) from None
    return found
