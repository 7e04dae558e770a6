"""Insertion (Petsiuk, Das, Saenko: RISE, BMVC 2018, Section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lcam_cli.measures.curve_measure import CurveMeasure

if TYPE_CHECKING:
    from torch import Tensor

    from lcam_cli.measures.view import BatchView, MapView


@dataclass(frozen=True)
class InsertionSteps:
    """From the blurred image to the image, the highest pixels of the map first.

    Attributes:
        passes: Forward passes a map takes.
    """

    passes: ClassVar[int] = 27

    def scores(self, view: MapView) -> Tensor:
        """Scores at every step, float32 (STEPS + 1, B)."""
        from lcam_cli.measures.curves import curve

        batch = view.batch
        start = view.of_classes(batch.once(_blurred_scores))
        return curve(
            batch.engine,
            batch.once(_blurred),
            batch.x,
            view.ranks,
            view.classes,
            (start, view.full),
        )


class Insertion(CurveMeasure):
    """The area under the score as pixels appear in a blurred image."""

    name = title = "insertion"
    lower_is_better = False
    meaning = (
        "the area under the score, from 0 to 1, as pixels appear in a blurred image, highest map "
        "values first"
    )
    steps = InsertionSteps()


def _blurred(batch: BatchView) -> Tensor:
    from lcam_cli.measures.curves import blurred

    return blurred(batch.x, batch.mean)


def _blurred_scores(batch: BatchView) -> Tensor:
    return batch.engine.scores(batch.once(_blurred))
