"""Means over images and their uncertainty, where some images have no number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
# Numbers drawn at a time for the bootstrap: bounds its memory, whatever the number of images.
_DRAWS_AT_ONCE = 2_000_000


def mean_by_image(numbers: NDArray[np.float64], images: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean number of each image, (K, images), from those of rows, (K, rows).

    Rows without a number (NaN) do not count; an image of such rows alone has none.

    Args:
        numbers: Of rows, an image and a class each.
        images: Which image each row is of, (rows,).
    """
    _, place = np.unique(images, return_inverse=True)
    there = np.isfinite(numbers)
    sums, rows = (
        np.stack([np.bincount(place, weights=one) for one in weights]).astype(np.float64)
        for weights in (np.where(there, numbers, 0), there)
    )
    return _mean_of(sums, rows)


def _mean_of(sums: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums by their counts; NaN where there is nothing to count."""
    means: NDArray[np.float64] = np.full(sums.shape, np.nan)
    return np.divide(sums, counts, out=means, where=counts > 0)


def mean(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the last axis of what is a number, (...); NaN where nothing is."""
    there = np.isfinite(numbers)
    return _mean_of(np.where(there, numbers, 0).sum(-1), there.sum(-1).astype(np.float64))


def defined(value: float) -> float | None:
    """A mean; None where it is NaN, of no numbers."""
    return None if np.isnan(value) else float(value)


def interval(low: float, high: float) -> tuple[float, float] | None:
    """An interval; None where its ends are NaN, of no numbers."""
    return None if np.isnan(low) else (float(low), float(high))


def bootstrap(
    numbers: NDArray[np.float64], seed: int, resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """Return the means of numbers over images that are drawn with replacement, again and again.

    All rows are resampled with the same images. An image without a number is drawn like the
    others, and does not count in that row's mean.

    Args:
        numbers: One number an image, (rows, N); NaN where an image has none.
        seed: Seed of the draws; the same seed gives the same means.
        resamples: How many times N images are drawn.

    Returns:
        (resamples, rows); NaN where none of the images drawn has a number.
    """
    there = np.isfinite(numbers)
    numbers = np.where(there, numbers, 0)
    random = np.random.default_rng(seed)
    images = numbers.shape[1]
    at_once = max(1, _DRAWS_AT_ONCE // images)
    means = []
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn = random.integers(images, size=(rows, images))
        drawn += np.arange(rows)[:, None] * images
        times = np.bincount(drawn.ravel(), minlength=rows * images).reshape(rows, images)
        counts = np.float64(images) if there.all() else times @ there.T.astype(np.float64)
        means.append(_mean_of(times @ numbers.T, np.broadcast_to(counts, (rows, len(numbers)))))
    return np.concatenate(means)


def percentiles(drawn: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of 95% percentile-bootstrap intervals.

    Args:
        drawn: What each resample gives, (K, resamples).

    Returns:
        The 2.5th and the 97.5th percentiles, (K,) each; NaN where no resample gives a number. (One
        may have drawn none of the few images that have a number.)
    """
    low, high = np.full((2, len(drawn)), np.nan)
    some = np.isfinite(drawn).any(1)
    if some.any():
        low[some], high[some] = np.nanpercentile(drawn[some], [2.5, 97.5], axis=1)
    return low, high
