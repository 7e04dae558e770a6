"""Rounding a frozen network's weights to half precision, so that what it computes changes least.

In bf16 it is the weights' rounding that changes a network, not that of what flows through it, and
most of all in filters that sum few numbers, whose errors do not cancel: depthwise convolutions and
the first one (docs/precision.md). Neighbouring pixels are nearly equal, and on equal pixels only
the sum of a filter matters. So the sum is kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

_INPUTS, _PIXELS = 8, 49


def rounded(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """A weight in half precision.

    Filters of a few pixels over a few channels keep their sums: what rounding takes from one weight
    is given to the next, the largest first, so that what is left in the end is the rounding error
    of the smallest. All other weights are rounded to the nearest.

    Args:
        weight: float32, of any shape; filters are (O, I, h, w), I of each group.
        dtype: bfloat16 or float16.

    Returns:
        The same shape, in ``dtype`` and the layout that ``weight`` has.
    """
    nearest = weight.to(dtype)
    is_filter = weight.ndim == 4 and weight.shape[1] <= _INPUTS
    if not is_filter or not 1 < weight.shape[2:].numel() <= _PIXELS:
        return nearest
    if not nearest.isfinite().all():  # a mask of −∞ has no rounding errors to give on
        return nearest
    flat = weight.flatten(2)
    largest_first = flat.abs().argsort(2, descending=True)
    result = torch.empty_like(flat)
    carried = torch.zeros_like(flat[..., :1])
    for place in torch.split(largest_first, 1, dim=2):
        wanted = flat.gather(2, place) + carried
        given = wanted.to(dtype).float()
        carried = wanted - given
        result.scatter_(2, place, given)
    return nearest.copy_(result.view_as(weight))
