"""The pointing game (Zhang et al.: Excitation Backprop, ECCV 2016, IJCV 2018, Section 4.1)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lcam_cli.measures.measure import MapScores
from lcam_cli.measures.object_measure import ObjectMeasure, objects_of

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE = 15
"""Pixels that the highest one may lie beside an object, in a view of 224 × 224."""

_SIDE = 224


class Pointing(ObjectMeasure):
    """How often a map's highest pixel lies on an object, in percent of the images."""

    name = title = "pointing"
    long_title = "Pointing game, %"
    meaning = "how often the map's highest pixel is on the object, or within 15 px of it at 224"
    source = "Zhang et al., ECCV 2016"

    def __init__(self, tolerance: float = TOLERANCE) -> None:
        self.tolerance = tolerance

    @property
    def settings(self) -> dict[str, float]:
        """The tolerance, in pixels at a side of 224."""
        return {"tolerance": self.tolerance}

    def numbers(self, scores: MapScores, nu: float) -> Tensor:
        """Return 100 for a hit and 0 for a miss, float32 (B,); NaN without an object.

        It is a hit where a pixel of an object lies within the tolerance, from centre to centre: a
        disc of radius 15 · √(H·W)/224. Of pixels equally high the first counts, row by row.
        """
        import torch

        objects = objects_of(scores)
        H, W = scores.V.shape[1:]
        at = scores.V.flatten(1).argmax(1)
        rows = torch.arange(H, device=at.device) - (at // W)[:, None]
        columns = torch.arange(W, device=at.device) - (at % W)[:, None]
        squared = rows[:, :, None] ** 2 + columns[:, None, :] ** 2
        near = squared <= self.tolerance**2 * H * W / _SIDE**2
        hits = (near & objects.inside).flatten(1).any(1).float() * 100
        return hits.masked_fill(~objects.known, math.nan)
