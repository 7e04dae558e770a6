"""Average Drop (Chattopadhay et al., Grad-CAM++, WACV 2018; L-CAM, Eq. 10)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lcam_cli.measures.measure import NuMeasure

if TYPE_CHECKING:
    from torch import Tensor


class AverageDrop(NuMeasure):
    """How much of the confidence is lost, in percent of it.

    Of a score of 0 it is not defined: what has nothing to lose has not kept everything either.
    """

    name = "ad"
    title = "AD"
    lower_is_better = True
    long_title = "Average Drop, %"
    meaning = "how much of its score an image loses on average, in percent"
    left_out = "{maps} of score 0 skipped (undefined)"
    source = "Chattopadhay et al. (Grad-CAM++), WACV 2018; L-CAM, Eq. 10"

    def compare(self, full: Tensor, kept: Tensor) -> Tensor:
        """Return max(0, f(X) − f(X ⊙ φ_ν(V))) / f(X) · 100, in [0, 100]; NaN where f(X) is 0."""
        lost = (full - kept).clamp_min(0) / full
        return lost.masked_fill(~(full > 0), math.nan) * 100
