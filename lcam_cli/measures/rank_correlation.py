"""Spearman's rank correlation of maps: whether they put the same pixels above the others.

Equal values share the mean of their ranks, so that the order in which they are met says nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor


def ranks(values: Tensor) -> Tensor:
    """Ranks from 1 of values (B, N) within each row, float32; equal ones share their mean rank.

    They are exact: float32 holds whole and half numbers up to 2²³.
    """
    ordered, index = values.sort(1)
    N = values.shape[1]
    place = torch.arange(N, device=values.device, dtype=torch.int32)
    # Where runs of equal values start and end, and for each value of a run both ends' places.
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    ends = torch.ones_like(starts)
    ends[:, :-1] = starts[:, 1:]
    first = torch.where(starts, place, 0).cummax(1).values
    last = torch.where(ends, place, N).flip(1).cummin(1).values.flip(1)
    return torch.empty_like(values).scatter_(1, index, (first + last).float() / 2 + 1)


def correlation_of_ranks(one: Tensor, other: Tensor) -> Tensor:
    """Spearman's ρ, (B,), float64 in [-1, 1], of ranks (B, N); NaN where either is all equal."""
    # The mean rank is (N + 1) / 2 whatever the ties; float64, since squares of ranks add up.
    mean = (one.shape[1] + 1) / 2
    a, b = one.double() - mean, other.double() - mean
    spread = ((a * a).sum(1) * (b * b).sum(1)).sqrt()
    return torch.where(spread > 0, (a * b).sum(1) / spread, torch.nan).clamp(-1, 1)
