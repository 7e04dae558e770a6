"""Sparseness (Chalasani et al.: Concise Explanations, ICML 2020, Section 3.1)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lcam_cli.measures.measure import MapMeasure, MapScores

if TYPE_CHECKING:
    from torch import Tensor


class Sparseness(MapMeasure):
    """How much of a map lies in few pixels: the Gini index of its values, in [0, 1].

    0 where all pixels are the same, 1 − 1/(H·W) where one has all. A map of zeros has none.
    """

    name = title = "sparseness"
    lower_is_better = False
    meaning = "how concentrated the map is in few pixels, from 0 to 1: the Gini index of its values"
    left_out = "{maps} of zeros skipped (undefined)"
    source = "Chalasani et al., ICML 2020"

    def numbers(self, scores: MapScores, nu: float) -> Tensor:
        """Return the Gini index (B,); NaN where the map is 0 everywhere.

        With the N values in ascending order v_1 … v_N it is Σ_i (2i − N − 1)·v_i / (N·Σ_i v_i).
        """
        import torch

        from lcam_cli.measures.threshold import sorted_rows

        v = sorted_rows(scores.V.flatten(1)).double()
        N = v.shape[1]
        weights = 2 * torch.arange(1, N + 1, device=v.device, dtype=v.dtype) - N - 1
        total = v.sum(1)
        return ((v @ weights) / (N * total)).masked_fill(total == 0, math.nan)
