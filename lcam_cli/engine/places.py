"""Where the numbers of a tensor lie in the image, and where what is computed of them lies.

A pixel lies in its row and its column. What is computed of several numbers, as by a convolution,
lies in the middle of them: at the centre of its receptive field (Araujo, Norris, Sim: Computing
Receptive Fields of Convolutional Neural Networks, Distill 2019). Where branches of a network meet
whose centres differ, it lies somewhere between them. So a number has an interval of rows and one of
columns, from the first to the last of the centres of all paths that lead to it.

Places are a tensor (4, *sizes), float32, of the sizes of the numbers: the first row, minus the last
row, the first column, minus the last column. With the upper ends negative, the smallest interval
that holds several is a minimum. Along axes where nothing changes, as channels, the size is 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Stands for infinity. That would become NaN where places are interpolated.
_FAR = float(2**30)
_MOST = 0.75


def of_pictures(height: int, width: int) -> Tensor:
    """The places of a batch of images: (4, 1, 1, H, W)."""
    rows = torch.arange(height).view(1, 1, -1, 1).expand(1, 1, height, width)
    columns = torch.arange(width).view(1, 1, 1, -1).expand(1, 1, height, width)
    return torch.stack([rows, -rows, columns, -columns]).float()


def nowhere(axes: int) -> Tensor:
    """Empty intervals: of parameters, and of what sees the whole image."""
    return torch.full((4, *[1] * axes), _FAR)


def unknown(axes: int) -> Tensor:
    """Intervals without end."""
    return torch.full((4, *[1] * axes), -_FAR)


def is_nowhere(places: Tensor) -> bool:
    """Whether none of the numbers has a place."""
    return bool((places == _FAR).all())


def ends(places: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The first and the last of the centres along one axis of the image, each (*sizes).

    Args:
        places: Of some numbers.
        dim: 0 for rows, 1 for columns.
    """
    return places[2 * dim], -places[2 * dim + 1]


def are_finite(places: Tensor) -> bool:
    """Whether all numbers have a place, and none an unknown one."""
    return bool((places.abs() < _FAR / 2**8).all())


def aligned(places: Tensor, axes: int) -> Tensor:
    """Places with so many axes: more of size 1 ahead, as broadcasting adds them."""
    missing = axes + 1 - places.ndim
    return places.reshape(4, *[1] * missing, *places.shape[1:]) if missing else places


def hull(several: Sequence[Tensor], axes: int) -> Tensor:
    """The places of numbers that are each computed of one of every tensor, broadcast."""
    found, *others = (aligned(places, axes) for places in several)
    for other in others:
        found = torch.minimum(found, other)
    return found


def over(places: Tensor, dims: Sequence[int]) -> Tensor:
    """The places of numbers that are each computed of all along some axes; these get size 1.

    What sees most of all rows that there are, as a mean over the image does, lies in none of
    them; so for columns.
    """
    inner = [dim % (places.ndim - 1) + 1 for dim in dims]
    if all(places.shape[dim] == 1 for dim in inner):
        return places
    found = places.amin(inner, keepdim=True)
    for pair in (slice(0, 2), slice(2, 4)):
        each, sums = places[pair], found[pair]
        before, now, whole = (_lengths(p) for p in (each, sums, each.flatten(1).amin(1)))
        sums[:, now - before.max() > _MOST * (whole - before.max())] = _FAR
    return found


def narrower(a: Tensor, b: Tensor) -> Tensor:
    """Of the places of two tensors those that tell more: with shorter intervals, if not empty."""
    if is_nowhere(a) or is_nowhere(b):
        return b if is_nowhere(a) else a
    a_length, b_length = (max(_lengths(p[:2]).max(), _lengths(p[2:]).max()) for p in (a, b))
    return b if b_length < a_length else a


def _lengths(pair: Tensor) -> Tensor:
    """Of intervals (2, …): (…)."""
    return -pair.sum(0)


def at(places: Tensor, dim: int, positions: Tensor) -> Tensor:
    """The places of positions along an axis.

    Args:
        places: Of some numbers.
        dim: The axis of these.
        positions: (n,): 0 is the first number, 0.5 half way to the second. Before the first and
            after the last, as in padding, places go on in the same steps.
    """
    axis = dim % (places.ndim - 1) + 1
    count = places.shape[axis]
    if count == 1:
        return places
    before = positions.floor().clamp(0, count - 2).long()
    share = (positions - before).view([-1 if d == axis else 1 for d in range(places.ndim)])
    first, second = places.index_select(axis, before), places.index_select(axis, before + 1)
    return first + share * (second - first)


def compressed(places: Tensor) -> Tensor:
    """The same places, with size 1 along axes where nothing changes."""
    for dim in range(1, places.ndim):
        if places.shape[dim] == 1:
            continue
        first, second = places.narrow(dim, 0, 1), places.narrow(dim, 1, 1)
        # Two tell of most axes, which costs little.
        if torch.equal(first, second) and bool((places == first).all()):
            places = first
    return places
