"""The rows of a comparison: means, intervals and differences, on the images that all have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lcam_cli.errors import LcamError
from lcam_cli.measures.bootstrap import mean
from lcam_cli.measures.paired import paired
from lcam_cli.measures.picture_scores import PictureScores
from lcam_cli.measures.score import Scores
from lcam_cli.measures.summary import undefined_counts
from lcam_cli.measures.task import Task


@dataclass(frozen=True)
class RowScore:
    """One row of a comparison.

    Attributes:
        name: The method.
        scores: What the measures say.
        mean_saliency: Mean of V, in [0, 1].
        images_per_second: Images explained a second, measuring left out.
        flat_maps: How many of the maps compared have one value everywhere.
    """

    name: str
    scores: Scores
    mean_saliency: float
    images_per_second: float
    flat_maps: int = 0


def common_pictures(rows: Sequence[PictureScores]) -> NDArray[np.bool_]:
    """Return which images every row has scored, (N,): those that rows are compared on."""
    found: NDArray[np.bool_] = np.logical_and.reduce([row.scored for row in rows])
    return found


def score_rows(
    rows: Mapping[str, PictureScores], task: Task, *, floor: str | None = None, seed: int = 0
) -> list[RowScore]:
    """Score rows on the images that all of them have.

    An image's number is the mean over the classes explained, so that intervals are over images.

    Args:
        rows: Their scores by name.
        task: What was scored.
        floor: The row that cannot be best.
        seed: Of the bootstrap.

    Raises:
        LcamError: No image was scored by all rows.
    """
    common = common_pictures(list(rows.values()))
    if not common.any():
        raise LcamError("no image was scored by all methods", "check that the images can be read")
    numbers = mean(compared_numbers(list(rows.values()), common))
    measured = task.quantities
    compared = paired(numbers, measured, [name != floor for name in rows], seed)
    return [
        RowScore(
            name,
            Scores.of(measured, scores),
            float(row.mean_saliency[common].mean(dtype=np.float64)),
            int(row.scored.sum()) / max(row.seconds, 1e-9),
            int(row.flat[common].sum()),
        )
        for (name, row), scores in zip(rows.items(), compared, strict=True)
    ]


def undefined(rows: Sequence[PictureScores], task: Task) -> dict[str, int]:
    """Return for how many of the maps compared, an image and a class each, measures are undefined.

    Args:
        rows: Their scores.
        task: What was scored.

    Returns:
        Counts by the measure's name, of the measures that may be undefined.
    """
    return undefined_counts(task.quantities, compared_numbers(rows, common_pictures(rows))[0])


def compared_numbers(
    rows: Sequence[PictureScores], pictures: NDArray[np.bool_] | NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the numbers that are compared, (rows, J, images, C).

    What one row has no number of no row has: all are means of the same maps.

    Args:
        rows: Their scores.
        pictures: Which images, (N,) bool or their places.
    """
    numbers = np.stack([row.numbers[:, pictures] for row in rows]).astype(np.float64)
    return np.where(np.isnan(numbers).any(0), np.nan, numbers)
