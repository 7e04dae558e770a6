"""SISE and Ada-SISE: feature maps of several blocks, scored as masks and fused block by block.

Sattarzadeh et al.: Explaining Convolutional Neural Networks through Attribution-Based Input
Sampling and Block-Wise Feature Aggregation, AAAI 2021. Sudhakar et al.: Ada-SISE: Adaptive Semantic
Input Sampling for Efficient Explanation of Convolutional Neural Networks, ICASSP 2021.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.engine.grid import Grid
from lcam_cli.engine.masked import MaskedForwards
from lcam_cli.engine.stages import stage_ends
from lcam_cli.engine.taps import check_gradients, tap
from lcam_cli.methods.attention import min_max
from lcam_cli.methods.base import Maps
from lcam_cli.methods.scorecam import score_weighted

_BINS = 256


class Sise:
    """V_l = ζ(Σ_k s_k H_k) of each block l, H_k = ζ(θ(A_k)), over channels of mean gradient > 0.

    s_k is the softmax score of y on the image times H_k. Blocks are fused from the first to the
    last: F ← ζ(F + V_l) where V_l is above Otsu's threshold, else 0. Ada-SISE keeps only channels
    whose mean gradient is above Otsu's threshold of the positive ones.

    Args:
        backbone: The classifier; its blocks are the stages that :func:`stage_ends` finds.
        adaptive: Ada-SISE.

    Attributes:
        layers: The ends of the blocks, in the network's order.

    Raises:
        LcamError: It has no such stages, or no gradients at one of them.
    """

    def __init__(self, backbone: Backbone, adaptive: bool = False) -> None:
        self.name = "adasise" if adaptive else "sise"
        ends = stage_ends(backbone)
        self.layers = list(ends)
        check_gradients(backbone, self.layers)
        self._adaptive = adaptive
        self.params: dict[str, Any] = {"blocks": self.layers}
        # The most that a map can cost: channels without a positive gradient are left out.
        self.forward_passes = sum(ends.values())

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """One forward and one backward pass, and a masked forward pass a channel kept."""
        taps = tap(engine, forward.x, self.layers, classes)
        grids: list[Grid] | list[None] = engine.grids_of(self.layers) or [None] * len(self.layers)
        size = (forward.x.shape[2], forward.x.shape[3])
        forwards = MaskedForwards(engine, forward.x, classes)
        fused: Tensor | None = None
        for block, grid in zip(self.layers, grids, strict=True):
            A, beta = taps.outputs[block], taps.gradients[block].mean((2, 3))
            kept = torch.stack([self._kept(b) for b in beta])
            V = min_max(score_weighted(forwards, A, kept, size, grid))
            fused = V if fused is None else fuse(fused, V)
        assert fused is not None
        return Maps(fused)

    def _kept(self, beta: Tensor) -> Tensor:
        positive = beta > 0
        if not self._adaptive or not positive.any():
            return positive
        return positive & (beta > otsu(beta[positive]))


def fuse(F: Tensor, V: Tensor) -> Tensor:
    """Add two maps (B, H, W) in [0, 1] and keep what is above Otsu's threshold of the second."""
    cut = torch.stack([otsu(v.flatten()) for v in V])
    return min_max((F + V) * (cut[:, None, None] < V))


def otsu(values: Tensor) -> Tensor:
    """Otsu's threshold (1979) of values (n,): the edge, of 256 bins, that parts them best."""
    low, high = values.min(), values.max()
    if not high > low:
        return low - 1  # nothing to part: all stay
    bins = ((values - low) / (high - low) * _BINS).long().clamp(max=_BINS - 1)
    counts = torch.bincount(bins, minlength=_BINS).double()
    centres = torch.arange(_BINS, device=values.device) + 0.5
    below = counts.cumsum(0)[:-1]
    above = counts.sum() - below
    mass = (counts * centres).cumsum(0)
    mean_below = mass[:-1] / below
    mean_above = (mass[-1] - mass[:-1]) / above.clamp_min(1)
    between = below * above * (mean_above - mean_below) ** 2
    best = between.argmax() + 1
    return low + best / _BINS * (high - low)
