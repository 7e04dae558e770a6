"""Average Drop and Increase in Confidence (L-CAM, Eq. 10 and 11), with their uncertainty."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lcam_cli.errors import LcamError
from lcam_cli.measures.score import NuScore

RESAMPLES = 2000
# Numbers drawn at a time for the bootstrap: bounds its memory, whatever the number of images.
_DRAWS_AT_ONCE = 2_000_000


def drop(full: Tensor, masked: Tensor) -> Tensor:
    """Return how much of the confidence is lost, in percent of it (the terms of Eq. 10).

    Args:
        full: Scores f(X) of the class on the whole images, in [0, 1], shape (B,).
        masked: The same on the masked images, shape (..., B).

    Returns:
        max(0, f(X) − f(masked)) / f(X) · 100, in [0, 100], shape (..., B). Of a score of 0 it is
        not defined, and NaN: what has nothing to lose has not kept everything either.
    """
    lost = (full - masked).clamp_min(0) / full
    return torch.where(full > 0, lost, torch.nan) * 100


def increase(full: Tensor, masked: Tensor) -> Tensor:
    """Return whether the confidence rose (the terms of Eq. 11): bool, shapes as in ``drop``."""
    return masked > full


class AverageDrop:
    """Gathers AD(ν) and IC(ν) over the images of a run.

    Rows with a score of 0 are left out of AD, which is not defined for them.

    Where several classes of an image are explained, its term is their mean: intervals are over
    images, whose classes are not drawn one by one.

    Args:
        nus: The percentages ν, in the order of the rows given to ``update``.
        seed: Seed of the bootstrap.
    """

    def __init__(self, nus: Sequence[float], seed: int = 0) -> None:
        self.nus = tuple(nus)
        self._seed = seed
        self._drops: list[NDArray[np.float32]] = []
        self._increases: list[NDArray[np.bool_]] = []
        self._images: list[NDArray[np.int64]] = []

    @property
    def count(self) -> int:
        """How many images have been scored."""
        return len(np.unique(np.concatenate(self._images))) if self._images else 0

    @property
    def undefined(self) -> int:
        """How many rows AD is not defined for."""
        return sum(int(np.isnan(drops[0]).sum()) for drops in self._drops)

    def update(self, full: Tensor, masked: Tensor, images: Sequence[int] | None = None) -> None:
        """Add a batch of rows, each an image and a class.

        Args:
            full: Scores f(X) of the class explained, in [0, 1], shape (B,).
            masked: The scores f(X ⊙ φ_ν(V)), shape (len(nus), B).
            images: A number for each row's image, the same for all its rows; None where each row
                is an image of its own.

        Raises:
            LcamError: A score is not a finite number.
        """
        full, masked = full.detach().float().cpu(), masked.detach().float().cpu()
        if masked.shape != (len(self.nus), *full.shape):
            raise ValueError(f"masked is {tuple(masked.shape)}, not {(len(self.nus), *full.shape)}")
        if not (full.isfinite().all() and masked.isfinite().all()):
            raise LcamError(
                "the classifier's confidence is not a number on some image",
                "leave such images out: nothing can be said of them",
            )
        if images is None:
            first = sum(map(len, self._images))
            images = range(first, first + len(full))
        self._images.append(np.array(images, np.int64))
        self._drops.append(drop(full, masked).numpy())
        self._increases.append(increase(full, masked).numpy())

    def summary(self) -> dict[float, NuScore]:
        """Return AD, IC and their intervals at each ν.

        Raises:
            LcamError: No image was scored.
        """
        if self.count == 0:
            raise LcamError("no image was scored", "check that the images can be read")
        image = np.concatenate(self._images)
        drops = _by_image(np.concatenate(self._drops, axis=1).astype(np.float64), image)
        increases = _by_image(
            100.0 * np.concatenate(self._increases, axis=1).astype(np.float64), image
        )
        low, high = bootstrap(np.concatenate([drops, increases]), self._seed)
        n = len(self.nus)
        return {
            nu: NuScore(
                ad=defined(mean(drops[i])),
                ic=float(increases[i].mean()),
                ad_ci95=interval(low[i], high[i]),
                ic_ci95=(float(low[n + i]), float(high[n + i])),
            )
            for i, nu in enumerate(self.nus)
        }


def _by_image(terms: NDArray[np.float64], image: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean term of each image, (M, images), from those of rows, (M, rows).

    Rows without a term (NaN) do not count; an image of such rows alone has none.
    """
    _, place = np.unique(image, return_inverse=True)
    there = np.isfinite(terms)
    sums, rows = (
        np.stack([np.bincount(place, weights=one) for one in weights]).astype(np.float64)
        for weights in (np.where(there, terms, 0), there)
    )
    return mean_of(sums, rows)


def mean_of(sums: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums by their counts; NaN where there is nothing to count."""
    means: NDArray[np.float64] = np.full(sums.shape, np.nan)
    return np.divide(sums, counts, out=means, where=counts > 0)


def mean(terms: NDArray[np.float64]) -> float:
    """The mean of the terms that are there; NaN where none is."""
    there = terms[np.isfinite(terms)]
    return float(there.mean()) if len(there) else math.nan


def defined(value: float) -> float | None:
    """A mean; None where it is NaN, of no terms."""
    return None if np.isnan(value) else float(value)


def interval(low: float, high: float) -> tuple[float, float] | None:
    """An interval; None where its ends are NaN, of no terms."""
    return None if np.isnan(low) else (float(low), float(high))


def bootstrap(
    terms: NDArray[np.float64], seed: int, resamples: int = RESAMPLES
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the 95% percentile-bootstrap interval of each row's mean.

    All rows are resampled with the same images, drawn with replacement. An image without a term
    is drawn like the others, and does not count in that row's mean.

    Args:
        terms: One term an image, shape (measures, N); NaN where an image has none.
        seed: Seed of the draws; the same seed gives the same interval.
        resamples: How many times N images are drawn.

    Returns:
        The 2.5th and the 97.5th percentiles of the means, each of shape (measures,); NaN for a row
        without terms.
    """
    there = np.isfinite(terms)
    terms = np.where(there, terms, 0)
    random = np.random.default_rng(seed)
    images = terms.shape[1]
    at_once = max(1, _DRAWS_AT_ONCE // images)
    means = []
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn = random.integers(images, size=(rows, images))
        drawn += np.arange(rows)[:, None] * images
        times = np.bincount(drawn.ravel(), minlength=rows * images).reshape(rows, images)
        counts = np.float64(images) if there.all() else times @ there.T.astype(np.float64)
        means.append(mean_of(times @ terms.T, np.broadcast_to(counts, (rows, len(terms)))))
    drawn_means = np.concatenate(means)
    low, high = np.full((2, len(terms)), np.nan)
    some = np.isfinite(drawn_means).any(0)
    if some.any():  # a resample may have drawn none of the few images that have a term
        low[some], high[some] = np.nanpercentile(drawn_means[:, some], [2.5, 97.5], axis=0)
    return low, high
