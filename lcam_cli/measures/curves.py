"""The arithmetic of insertion and deletion (Petsiuk, Das, Saenko: RISE, BMVC 2018, Section 4.2)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lcam_cli.engine.activation import confidence
from lcam_cli.engine.engine import Engine
from lcam_cli.maps.region import kept_pixels

STEPS = 28
"""Each step shows or hides 1/28 of the pixels: on 224×224, eight rows' worth."""

_BLUR_CELLS, _BLUR_SIGMA = 11, 5.0


def pixel_ranks(V: Tensor) -> Tensor:
    """Return each pixel's place in the order of V, 0 the highest.

    Of equal pixels the first in row-major order comes first, as in φ_ν.

    Args:
        V: Saliency maps, (B, H, W).

    Returns:
        (B, H, W), int64: a permutation of 0 … H·W − 1 in each map.
    """
    order = V.flatten(1).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(order.shape[1], device=V.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).view(V.shape)


def curve(
    engine: Engine,
    start: Tensor,
    end: Tensor,
    ranks: Tensor,
    classes: Tensor,
    ends: Tensor | tuple[Tensor, Tensor],
) -> Tensor:
    """Score images on their way from ``start`` to ``end``, the highest pixels of V first.

    Args:
        engine: The engine with the classifier.
        start: Pixels (B, C, H, W) in [0, 1].
        end: The same.
        ranks: The pixels' places in the order of V, (B, H, W), as :func:`pixel_ranks` gives them.
        classes: (B,), int64.
        ends: The scores of ``start`` and ``end`` themselves, (2, B): they are the same
            for all maps, so that they are computed once.

    Returns:
        Scores, (STEPS + 1, B).
    """
    pixels = ranks[0].numel()
    scores = [ends[0]]
    for step in range(1, STEPS):
        moved = (ranks < kept_pixels(100 * step / STEPS, pixels)).unsqueeze(1)
        shown = torch.where(moved, end, start)
        scores.append(confidence(engine.logits(shown), classes, engine.activation))
    return torch.stack([*scores, ends[1]])


def area(scores: Tensor) -> Tensor:
    """Return the area under curves (STEPS + 1, B) over [0, 1], by the trapezoid rule: (B,)."""
    return torch.trapezoid(scores, dim=0) / (len(scores) - 1)


def blurred(x: Tensor, mean: Tensor) -> Tensor:
    """Return images as insertion begins with them: blurred as in RISE's code.

    There the kernel is what SciPy's ``gaussian_filter`` (σ = 5, reflecting at the ends) makes of a
    point in 11×11 cells, and the normalised image is padded with zeros, the mean colour.

    Args:
        x: Pixels (B, C, H, W) in [0, 1].
        mean: The classifier's mean colour, (1, C, 1, 1).

    Returns:
        Pixels in [0, 1], shape of ``x``.
    """
    cells = _kernel().to(x.device)
    channels = x.shape[1]
    weights = torch.outer(cells, cells).expand(channels, 1, -1, -1)
    return F.conv2d(x - mean, weights, padding=_BLUR_CELLS // 2, groups=channels) + mean


def _kernel() -> Tensor:
    """The weights of the 11 cells, summing to 1."""
    reach = int(4 * _BLUR_SIGMA + 0.5)
    tails = [math.exp(-0.5 * (i / _BLUR_SIGMA) ** 2) for i in range(-reach, reach + 1)]
    cells = [0.0] * _BLUR_CELLS
    for offset, weight in enumerate(tails, start=_BLUR_CELLS // 2 - reach):
        # Reflection about the edges has period 2·11: … 1 0 | 0 1 … 9 10 | 10 9 …
        place = offset % (2 * _BLUR_CELLS)
        cells[min(place, 2 * _BLUR_CELLS - 1 - place)] += weight / sum(tails)
    return torch.tensor(cells)
