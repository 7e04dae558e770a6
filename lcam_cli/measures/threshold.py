"""The threshold φ_ν of Eq. 10 and 11: only the highest ν% of a saliency map stay."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lcam_cli.maps.region import kept_pixels


def top_percent(V: Tensor, nu: float) -> Tensor:
    """Return φ_ν(V) for one ν; see :class:`Thresholds`. Shape (B, H, W)."""
    return Thresholds(V).top_percent(nu)


class Thresholds:
    """φ_ν(V) at any ν (L-CAM, Eq. 10 and 11); the maps are sorted once.

    Exactly ``kept_pixels(ν, H·W)`` pixels of each map stay at their values, the highest ones;
    the rest become zero. Of equal pixels at the cut the first in row-major order stay, so the
    result is the same on every machine. ν = 100 gives a copy of V.

    Args:
        V: Saliency maps in [0, 1], float, shape (B, H, W).
    """

    def __init__(self, V: Tensor) -> None:
        self._V = V.detach()

    @cached_property
    def _ascending(self) -> Tensor:
        return sorted_rows(self._V.flatten(1))

    def top_percent(self, nu: float) -> Tensor:
        """Return φ_ν(V), V's dtype and device, shape (B, H, W), for ν in (0, 100]."""
        flat = self._V.flatten(1)
        pixels = flat.shape[1]
        count = kept_pixels(nu, pixels)
        if count == pixels:
            return self._V.clone()
        if count == 0:
            return torch.zeros_like(self._V)
        return (flat * self._highest(count, of_zeros=False)).view_as(self._V)

    def is_kept(self, nu: float) -> Tensor:
        """Return which pixels are the highest ν%, bool (B, H, W), for ν in (0, 100].

        Exactly ``kept_pixels(ν, H·W)`` of each map, also where some of them are zero.
        """
        pixels = self._V[0].numel()
        count = kept_pixels(nu, pixels)
        if count in (0, pixels):
            return torch.full_like(self._V, count > 0, dtype=torch.bool)
        return self._highest(count, of_zeros=True).view_as(self._V)

    def _highest(self, count: int, *, of_zeros: bool) -> Tensor:
        flat = self._V.flatten(1)
        return _highest(flat, self._ascending[:, flat.shape[1] - count], count, of_zeros=of_zeros)


def _highest(flat: Tensor, cut: Tensor, count: int, *, of_zeros: bool) -> Tensor:
    """Return which ``count`` pixels of each row are highest, (B, N) bool, given the last's value.

    Rows whose cut is zero may hold more than ``count`` without ``of_zeros``, for those to whom
    pixels of zero are all the same.
    """
    cut = cut[:, None]
    keep = flat >= cut
    surplus = keep.sum(1, keepdim=True) - count
    tied = (surplus > 0).squeeze(1)
    if not of_zeros:
        tied &= (cut > 0).squeeze(1)
    if tied.any():
        ties = flat[tied] == cut[tied]
        room = ties.sum(1, keepdim=True) - surplus[tied]
        keep[tied] &= ~ties | (ties.cumsum(1, dtype=torch.int32) <= room)
    return keep


def sorted_rows(flat: Tensor) -> Tensor:
    """Return each row of floats (B, N) in ascending order."""
    # On a processor, NumPy sorts floats ten times as fast as torch does.
    if flat.device.type == "cpu" and flat.dtype in (torch.float32, torch.float64):
        return torch.from_numpy(np.sort(flat.numpy(), axis=1))
    return flat.sort(dim=1).values
