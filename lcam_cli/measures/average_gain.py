"""Average Gain (Zhang, Torres, Sicre, Avrithis, Ayache: Opti-CAM, CVIU 2024, Section 4.2)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lcam_cli.measures.measure import NuMeasure

if TYPE_CHECKING:
    from torch import Tensor


class AverageGain(NuMeasure):
    """How much of the confidence that is lacking is gained, in percent of it.

    Average Drop's counterpart: of an image, one of the two is 0. Of a score of 1 it is not
    defined: nothing is lacking.
    """

    name = "ag"
    title = "AG"
    lower_is_better = False
    long_title = "Average Gain, %"
    meaning = "how much of the distance from its score to 1 an image gains on average, in percent"
    left_out = "{maps} of score 1 skipped (undefined)"
    cost = "none beyond those of AD"
    source = "Zhang et al. (Opti-CAM), CVIU 2024"

    def compare(self, full: Tensor, kept: Tensor) -> Tensor:
        """Return max(0, f(X ⊙ φ_ν(V)) − f(X)) / (1 − f(X)) · 100, in [0, 100]; NaN of a 1."""
        gained = (kept - full).clamp_min(0) / (1 - full)
        return gained.masked_fill(~(full < 1), math.nan) * 100
