"""Complexity (Poppi, Cornia, Baraldi, Cucchiara: CVPR Workshops 2021, Section 3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lcam_cli.measures.measure import MapMeasure, MapScores

if TYPE_CHECKING:
    from torch import Tensor


class Complexity(MapMeasure):
    """How much of the image a map shows: its mean, the ℓ1 norm over H·W, in percent."""

    name = title = "complexity"
    lower_is_better = True
    digits = 2
    meaning = "the mean of the map, in percent: how much of the image it shows"
    source = "Poppi et al., CVPRW 2021"

    def numbers(self, scores: MapScores, nu: float) -> Tensor:
        """Return mean(V) · 100, in [0, 100]."""
        return scores.V.mean((1, 2)) * 100
