"""ADCC (Poppi, Cornia, Baraldi, Cucchiara: CVPR Workshops 2021, Section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lcam_cli.measures.average_drop import AverageDrop
from lcam_cli.measures.coherency import Coherency
from lcam_cli.measures.complexity import Complexity
from lcam_cli.measures.measure import MapScores, Measure, Perturbation
from lcam_cli.measures.through_map import SCORE, ThroughMap

if TYPE_CHECKING:
    from torch import Tensor


class Adcc(Measure):
    """Average Drop, Coherency and Complexity in one number: their harmonic mean, in percent.

    The mean is of each image's three numbers, and averaged over images. The Average Drop is
    that of X ⊙ V, ν = 100, whatever ``keep`` says. What is 0 of one part is 0; a part that is not
    defined leaves the map out: a flat map has no coherency, a score of 0 no drop.

    (The authors' published code lacks the harmonic mean's reciprocal; this is their paper's.)
    """

    name = "adcc"
    title = "ADCC"
    lower_is_better = False
    digits = 2
    meaning = (
        "the harmonic mean of coherency, 100 − complexity and 100 − AD(100), of each image, "
        "averaged, in percent"
    )
    left_out = "{maps} skipped because a part is undefined"
    cost = "coherency's"
    source = "Poppi et al., CVPRW 2021"
    explains_again = True

    def perturbations(self, nu: float) -> Sequence[Perturbation]:
        """Ask for X ⊙ V explained again."""
        return [ThroughMap()]

    def numbers(self, scores: MapScores, nu: float) -> Tensor:
        """Return 3 / (1/coherency + 1/(1 − complexity) + 1/(1 − drop)) · 100, in [0, 100]."""
        kept = scores[ThroughMap()][SCORE]
        coherency = Coherency().numbers(scores, nu)
        simplicity = 100 - Complexity().numbers(scores, nu)
        retained = 100 - AverageDrop().compare(scores.full, kept)
        # Rounding may bring a part below 0. Of a 0, the reciprocal is infinite and the mean 0.
        a, b, c = (part.clamp_min(0) for part in (coherency, simplicity, retained))
        return 3 / (1 / a + 1 / b + 1 / c)
