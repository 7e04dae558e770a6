"""The energy-based pointing game (Wang et al.: Score-CAM, CVPR Workshops 2020, Section 4.3)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lcam_cli.measures.measure import MapScores
from lcam_cli.measures.object_measure import ObjectMeasure, objects_of

if TYPE_CHECKING:
    from torch import Tensor


class Energy(ObjectMeasure):
    """How much of a map lies on the objects, in percent of all of it."""

    name = title = "energy"
    long_title = "Energy on the object, %"
    meaning = "how much of the map's sum is on the object, in percent"
    left_out = f"{ObjectMeasure.left_out}, or because they are 0 everywhere"
    source = "Wang et al., Score-CAM, CVPRW 2020"

    def numbers(self, scores: MapScores, nu: float) -> Tensor:
        """Return Σ V inside / Σ V · 100, (B,); NaN without an object, or where V is 0."""
        objects = objects_of(scores)
        V = scores.V.double()
        total = V.sum((1, 2))
        inside = (V * objects.inside).sum((1, 2)) / total * 100
        return inside.float().masked_fill(~objects.known | (total == 0), math.nan)
