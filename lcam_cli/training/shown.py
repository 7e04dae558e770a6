"""What a training step shows of a map: all of it, or its highest part.

A loss on the whole map needs a term that keeps the map from turning all bright, and no weight of
that term fits two classifiers: how much a score falls depends on how sure the classifier is. A mask
that is cut at its highest ν% has no such term, because its area is given. ν is drawn anew for
every image and step, so that the order of all cells is learned.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

DRAWS = 2
"""Random numbers an image and step."""

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
    too, a brighter map would show more of the image, and maps would learn to be bright.

    Args:
        S: Maps, (B, H, W) in [0, 1].
        draws: Uniform in [0, 1), (B, 2): what is shown, and ν.

    Returns:
        The mask to hide images with, (B, H, W) in [0, 1].
    """
    what, u = draws.to(S).unbind(1)
    nu = _LOWEST + (_HIGHEST - _LOWEST) * u
    step = max(1, min(S.shape[1], S.shape[2]) // _SIDE)
    some = S.detach()[:, step // 2 :: step, step // 2 :: step].flatten(1)
    last = some.shape[1] - 1
    highest = some.topk(1 + int(_HIGHEST * last), 1).values  # all that any ν asks for
    q = highest.gather(1, (nu * last).long().clamp_max(highest.shape[1] - 1)[:, None])
    deviation = some.std(1, correction=min(1, last))  # of a single cell it is 0
    width = _SOFTNESS * deviation.clamp_min(_LEAST_DEVIATION)
    whole = what < _WHOLE
    all_of_it = what >= _WHOLE + _VALUES
    which = torch.stack([whole, ~(whole | all_of_it), all_of_it]).to(S)
    shown: Tensor = _Shown.apply(S, q[:, :, None], width[:, None, None], which[:, :, None, None])
    return shown


class _Shown(torch.autograd.Function):
    """a·c + b·S·c + d·S with the cut c = σ((S − q)/w), and a, b and d each 0 or 1.

    Written out because the step's own cost is here: maps have as many values as images have
    pixels, and autograd would go over them some thirty times instead of ten.
    """

    @staticmethod
    def forward(ctx: Any, S: Tensor, q: Tensor, width: Tensor, which: Tensor) -> Tensor:
        a, b, d = which
        cut = (S - q).div_(width).sigmoid_()
        ctx.save_for_backward(S, cut, width, which)
        return torch.addcmul(a, b, S).mul_(cut).addcmul_(d, S)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:
        S, cut, width, which = ctx.saved_tensors
        a, b, d = which
        of_cut = torch.addcmul(a, b, S).mul_(g)
        # dc = slope·(dS − dq)/w, and dq is the mean of dS, weighted by the slope.
        slope = torch.addcmul(cut, cut, cut, value=-1)
        total = slope.sum((1, 2), keepdim=True).clamp_min(torch.finfo(S.dtype).tiny)
        mean = (slope * of_cut).sum((1, 2), keepdim=True) / total
        through_cut = of_cut.sub_(mean).mul_(slope).div_(width)
        return torch.addcmul(d, b, cut).mul_(g).add_(through_cut), None, None, None
