"""What a training step shows of a map: all of it, or its highest part.

A loss on the whole map needs a term that keeps the map from turning all bright, and no weight of
that term fits two classifiers: how much a score falls depends on how sure the classifier is. A mask
that is cut at its highest ν% has no such term, because its area is given. ν is drawn anew for
every picture and step, so that the order of all cells is learned.
"""

from __future__ import annotations

import torch
from torch import Tensor

DRAWS = 2
"""Random numbers a picture and step."""

_WHOLE, _VALUES = 0.7, 0.2
"""How often the highest ν% are shown whole, and at their values; else it is all of the map."""
_LOWEST, _HIGHEST = 0.05, 0.45
"""ν, as a share of the pixels."""
_SOFTNESS = 0.3
"""Width of the cut, in standard deviations of the map."""
_LEAST_DEVIATION = 0.01
"""Of a map that is flat, or nearly: its cut would be so steep that gradients overflow."""
_SIDE = 56
"""Pixels along the shorter side that are enough to find the value at which ν% are cut."""


def shown_part(S: Tensor, draws: Tensor) -> Tensor:
    """Show of each map what chance says: its highest ν%, whole or at their values, or all of it.

    The cut is σ((S − q)/(0.3·s)), so that it has gradients; q is the value that ν% of the pixels
    exceed, and s the standard deviation of the map, a constant. q rises with the map: its gradient
    is the mean of S's around the cut, with which the cut's area stays what it is. Were q a constant
    too, a brighter map would show more of the picture, and maps would learn to be bright.

    Args:
        S: Maps, (B, H, W) in [0, 1].
        draws: Uniform in [0, 1), (B, 2): what is shown, and ν.

    Returns:
        The mask to hide pictures with, (B, H, W) in [0, 1].
    """
    what, u = draws.to(S).unbind(1)
    nu = _LOWEST + (_HIGHEST - _LOWEST) * u
    step = max(1, min(S.shape[1], S.shape[2]) // _SIDE)
    with torch.no_grad():
        some = S[:, step // 2 :: step, step // 2 :: step].flatten(1).sort(1, descending=True).values
        last = (nu * (some.shape[1] - 1)).long()
        q = some.gather(1, last[:, None])[:, :, None]
        deviation = some.std(1, correction=min(1, some.shape[1] - 1))  # of a single cell it is 0
        width = _SOFTNESS * deviation.clamp_min(_LEAST_DEVIATION)[:, None, None]
        cut = ((S - q) / width).sigmoid()
        slope = cut * (1 - cut)
        slope = slope / slope.sum((1, 2), keepdim=True).clamp_min(torch.finfo(S.dtype).tiny)
    around = (slope * S).sum((1, 2), keepdim=True)
    q = q + (around - around.detach())
    cut = ((S - q) / width).sigmoid()
    what = what[:, None, None]
    return torch.where(what < _WHOLE, cut, torch.where(what < _WHOLE + _VALUES, S * cut, S))
