"""Methods side by side on the same images: means, intervals, and who really differs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lcam_cli.measures.bootstrap import bootstrap, defined, interval, mean, percentiles
from lcam_cli.measures.measure import Parts, Quantity
from lcam_cli.measures.score import Difference, Score

_ROUNDED = 10
"""Decimals of a difference that are not rounding: rows that are equal differ by 0."""


def paired(
    numbers: NDArray[np.float64], measured: Sequence[Quantity], rivals: Sequence[bool], seed: int
) -> list[list[Score]]:
    """Compare rows measured on the same images.

    An image that is hard for one method is hard for all, so the differences, image by image, vary
    far less than the rows do: their interval tells rows apart whose own intervals overlap.

    Args:
        numbers: One number an image, shape (rows, J, N), one a part of each quantity; NaN where an
            image has none. What one row has no number of no row has, so that all are means of the
            same images.
        measured: K quantities, of J parts altogether.
        rivals: Which rows can be best (the floor cannot), one a row.
        seed: Of the bootstrap. All rows are resampled with the same images.

    Returns:
        A list a row, in it one a quantity.
    """
    parts, (rows, J, images) = Parts(measured), numbers.shape
    lacking = np.isnan(numbers).any(0)
    numbers = np.where(lacking, np.nan, numbers)
    means = parts.summarise(mean(numbers).T)  # (K, rows)
    drawn = bootstrap(numbers.reshape(-1, images), seed).reshape(-1, rows, J)
    resampled = parts.summarise(drawn.transpose(2, 1, 0))  # (K, rows, resamples)
    sign = [1.0 if quantity.measure.lower_is_better else -1.0 for quantity in measured]
    rank = np.where(np.array(rivals) & np.isfinite(means), np.array(sign)[:, None] * means, np.inf)
    best, each = rank.argmin(1), np.arange(len(measured))
    from_best = np.round(means - means[each, best][:, None], _ROUNDED)
    resampled_from_best = np.round(resampled - resampled[each, best][:, None], _ROUNDED)
    ends = _intervals(resampled)
    ends_from_best = _intervals(resampled_from_best)
    has_best = any(rivals) and rows > 1

    def score(r: int, k: int) -> Score:
        to_best = ends_from_best[k][r] if has_best else None
        return Score(
            defined(float(means[k, r])),
            ends[k][r],
            to_best and Difference(float(from_best[k, r]), to_best),
        )

    return [[score(r, k) for k in range(len(measured))] for r in range(rows)]


def _intervals(drawn: NDArray[np.float64]) -> list[list[tuple[float, float] | None]]:
    """The intervals of what resamples give, (K, rows, resamples): a list a quantity and row."""
    K, rows, resamples = drawn.shape
    low, high = percentiles(drawn.reshape(-1, resamples))
    found = [interval(*pair) for pair in zip(low, high, strict=True)]
    return [found[k * rows : (k + 1) * rows] for k in range(K)]
