"""Deletion (Petsiuk, Das, Saenko: RISE, BMVC 2018, Section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lcam_cli.measures.curve_measure import CurveMeasure

if TYPE_CHECKING:
    from torch import Tensor

    from lcam_cli.measures.view import BatchView, MapView


@dataclass(frozen=True)
class DeletionSteps:
    """From the image to one where all is hidden, the highest pixels of the map first.

    Attributes:
        passes: Forward passes a map takes.
    """

    passes: ClassVar[int] = 27

    def scores(self, view: MapView) -> Tensor:
        """Scores at every step, float32 (STEPS + 1, B)."""
        from lcam_cli.measures.curves import curve

        batch = view.batch
        nothing = batch.hidden.expand_as(batch.x)
        end = view.of_classes(batch.once(_hidden_scores))
        return curve(batch.engine, batch.x, nothing, view.ranks, view.classes, (view.full, end))


class Deletion(CurveMeasure):
    """The area under the score as pixels are hidden."""

    name = title = "deletion"
    lower_is_better = True
    meaning = (
        "the area under the score, from 0 to 1, as pixels are hidden, highest map values first"
    )
    steps = DeletionSteps()


def _hidden_scores(batch: BatchView) -> Tensor:
    # One image is scored: where all is hidden, all images are the same.
    scores = batch.engine.scores(batch.hidden.expand_as(batch.x[:1]))
    return scores.expand(len(batch.x), -1)
