"""Methods side by side on the same images: means, intervals, and who really differs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lcam_cli.measures.bootstrap import bootstrap, defined, interval, mean
from lcam_cli.measures.score import Difference, Score


def paired(
    numbers: NDArray[np.float64], low_is_good: Sequence[bool], rivals: Sequence[bool], seed: int
) -> list[list[Score]]:
    """Compare rows measured on the same images.

    An image that is hard for one method is hard for all, so the differences, image by image, vary
    far less than the rows do: their interval tells rows apart whose own intervals overlap.

    Args:
        numbers: One number an image, shape (rows, measures, N); NaN where an image has none. What
            one row has no number of no row has, so that all are means of the same images.
        low_is_good: Whether the lowest mean is best, one a measure; otherwise the highest.
        rivals: Which rows can be best (the floor cannot), one a row.
        seed: Of the bootstrap. All rows and differences are resampled with the same images.

    Returns:
        A list a row, in it one a measure.
    """
    rows, measures, images = numbers.shape
    lacking = np.isnan(numbers).any(0)
    numbers = np.where(lacking, np.nan, numbers)
    means = np.array([[mean(one) for one in row] for row in numbers])
    sign = np.where(low_is_good, 1.0, -1.0)
    rank = np.where(np.array(rivals)[:, None] & np.isfinite(means), sign * means, np.inf)
    best = rank.argmin(0)
    from_best = numbers - numbers[best, np.arange(measures)]
    both = np.concatenate([numbers, from_best]).reshape(-1, images)
    low, high = (bound.reshape(2, rows, measures) for bound in bootstrap(both, seed))
    has_best = any(rivals) and rows > 1

    def difference(r: int, m: int) -> Difference | None:
        ends = interval(low[1, r, m], high[1, r, m])
        if not has_best or ends is None:
            return None
        return Difference(mean(from_best[r, m]), ends)

    return [
        [
            Score(defined(means[r, m]), interval(low[0, r, m], high[0, r, m]), difference(r, m))
            for m in range(measures)
        ]
        for r in range(rows)
    ]
