"""The measures of one method over the images of a run, gathered batch by batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lcam_cli.errors import LcamError
from lcam_cli.maps.record import Floats
from lcam_cli.measures.bootstrap import (
    bootstrap,
    defined,
    interval,
    mean,
    mean_by_image,
    percentiles,
)
from lcam_cli.measures.measure import Kept, MapScores, Parts, Quantity
from lcam_cli.measures.score import Score, Scores
from lcam_cli.measures.scoring import numbers_of


class Summary:
    """Gathers the numbers of rows, an image and a class each, and means them over images.

    Where several classes of an image are explained, its number is their mean: intervals are over
    images, whose classes are not drawn one by one. Rows that a measure is not defined for are left
    out of it.

    Args:
        quantities: What is measured.
        seed: Seed of the bootstrap.
    """

    def __init__(self, quantities: Sequence[Quantity], seed: int = 0) -> None:
        self._quantities = quantities
        self._seed = seed
        self._numbers: list[Floats] = []
        self._images: list[NDArray[np.int64]] = []

    @property
    def count(self) -> int:
        """How many images have been scored."""
        return len(np.unique(np.concatenate(self._images))) if self._images else 0

    @property
    def undefined(self) -> dict[str, int]:
        """How many rows each measure is not defined for, of those that may be undefined."""
        return undefined_counts(self._quantities, np.concatenate(self._numbers, axis=1))

    def update(self, scores: MapScores, images: Sequence[int] | None = None) -> Floats:
        """Add a batch of rows.

        Args:
            scores: The scores of B maps.
            images: A number for each row's image, the same for all its rows; None where each row
                is an image of its own.

        Returns:
            Their numbers, float32 (J, B), a row a part of each quantity.

        Raises:
            LcamError: A score f(X) or f(X ⊙ φ_ν(V)) is not a finite number.
        """
        kept = [one for asked, one in scores.perturbed.items() if isinstance(asked, Kept)]
        for one in kept:
            if one.shape != scores.full.shape:
                raise ValueError(f"{tuple(one.shape)} scores are kept, not {len(scores.full)}")
        if not all(one.isfinite().all() for one in (scores.full, *kept)):
            raise LcamError(
                "the classifier's confidence is not a finite number for some image",
                "remove such images: they cannot be evaluated",
            )
        if images is None:
            first = sum(map(len, self._images))
            images = range(first, first + len(scores.full))
        self._images.append(np.array(images, np.int64))
        numbers: Floats = numbers_of(self._quantities, scores).cpu().numpy()
        self._numbers.append(numbers)
        return numbers

    def scores(self) -> Scores:
        """Return all measures and their intervals.

        Raises:
            LcamError: No image was scored.
        """
        if self.count == 0:
            raise LcamError("no image was scored", "check that the images can be read")
        parts = Parts(self._quantities)
        numbers = mean_by_image(
            np.concatenate(self._numbers, axis=1).astype(np.float64), np.concatenate(self._images)
        )
        drawn = parts.summarise(bootstrap(numbers, self._seed).T)
        ends = [interval(*pair) for pair in zip(*percentiles(drawn), strict=True)]
        means = [defined(float(one)) for one in parts.summarise(mean(numbers))]
        found = [Score(*pair) for pair in zip(means, ends, strict=True)]
        return Scores.of(self._quantities, found)


def undefined_counts(
    quantities: Sequence[Quantity], numbers: NDArray[np.floating]
) -> dict[str, int]:
    """Count the maps that measures are not defined for, at some ν.

    Args:
        quantities: K of them.
        numbers: Their parts', (J, ...), one a map.

    Returns:
        Counts by the measure's name; measures that are always defined are not in it, but where
        they give no number all the same.
    """
    lacking: dict[str, NDArray[np.bool_]] = {}
    for quantity, rows in zip(quantities, Parts(quantities).slices, strict=True):
        nan = np.isnan(numbers[rows]).any(0)
        if quantity.measure.left_out or nan.any():
            name = quantity.measure.name
            lacking[name] = lacking[name] | nan if name in lacking else nan
    return {name: int(nan.sum()) for name, nan in lacking.items()}
