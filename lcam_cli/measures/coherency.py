"""Coherency (Poppi, Cornia, Baraldi, Cucchiara: CVPR Workshops 2021, Section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lcam_cli.measures.measure import MapScores, Measure, Perturbation
from lcam_cli.measures.through_map import CORRELATION, ThroughMap

if TYPE_CHECKING:
    from torch import Tensor


class Coherency(Measure):
    """Whether the method finds the same where only what its map shows is left, in percent.

    100 where V(X ⊙ V) = V(X) up to scale, 50 where the two have nothing in common, 0 where one is
    the other's negative. The correlation is that of all pixels.

    A flat map has no correlation and is left out. (The authors' code takes 0 for it where it holds
    NaN, and fails otherwise.)

    Where a method draws, the draws count too. ``random`` draws anew for every image, and X ⊙ V is
    another image than X: it has about 50. RISE's masks are the same for all images: what its
    maps owe to the masks alone looks coherent.
    """

    name = title = "coherency"
    lower_is_better = False
    digits = 2
    meaning = (
        "how much the map resembles the map of the image masked by it, in percent: their "
        "correlation, scaled from −1…1 to 0…100"
    )
    left_out = "{maps} skipped: flat, or the masked image has a flat map or none"
    cost = "explains again: 1 pass, shared with AD(100); more for methods with several passes"
    source = "Poppi et al., CVPRW 2021"
    explains_again = True

    def perturbations(self, nu: float) -> Sequence[Perturbation]:
        """Ask for X ⊙ V explained again."""
        return [ThroughMap()]

    def numbers(self, scores: MapScores, nu: float) -> Tensor:
        """Return (Pearson(V(X), V(X ⊙ V)) + 1) / 2 · 100, in [0, 100]; NaN of flat maps."""
        return (scores[ThroughMap()][CORRELATION] + 1) / 2 * 100
