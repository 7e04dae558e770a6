"""What insertion and deletion share: the area under the scores of an image's way in steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from lcam_cli.measures.measure import MapScores, Measure, Perturbation

if TYPE_CHECKING:
    from torch import Tensor


class CurveMeasure(Measure):
    """The area under a curve, in [0, 1].

    Attributes:
        steps: The way; its scores are (STEPS + 1, B).
    """

    mean_key = "auc"
    left_out = "{maps} skipped because a score on the curve is not finite"
    cost = "27 passes, and 1 per image"
    source = "Petsiuk et al. (RISE), BMVC 2018"
    steps: ClassVar[Perturbation]

    @property
    def settings(self) -> Mapping[str, Any]:
        """How many steps there are."""
        from lcam_cli.measures.curves import STEPS

        return {"steps": STEPS}

    def perturbations(self, nu: float) -> Sequence[Perturbation]:
        """Ask for the scores along the way."""
        return [self.steps]

    def numbers(self, scores: MapScores, nu: float) -> Tensor:
        """Return the areas, in [0, 1]; NaN where a score along the way is."""
        from lcam_cli.measures.curves import area

        return area(scores[self.steps])
