"""SIDU: masks weighed by how like the whole image's, and how unlike each other's, they predict.

Muddamsetty, Jahromi, Moeslund: SIDU: Similarity Difference and Uniqueness Method for Explainable
AI, ICIP 2020.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.engine.masked import MaskedForwards
from lcam_cli.methods.attention import min_max, upsample
from lcam_cli.methods.base import Maps

_SIGMA = 0.25
_THRESHOLD = 0.5


class Sidu:
    """M_k = θ(ζ(A_k) > ½), P_k the softmax scores of all classes on the image times M_k.

    SD_k = exp(−‖P − P_k‖² / 2σ²) with σ = 0.25, U_k = Σ_j ‖P_k − P_j‖; V = ζ(Σ_k SD_k·U_k·M_k).
    It explains the whole prediction P: the class asked for changes nothing.

    Args:
        channels: K, the forward passes a map costs. A constant channel costs none.
    """

    name = "sidu"

    def __init__(self, channels: int) -> None:
        self.params: dict[str, Any] = {}
        self.forward_passes = channels

    @torch.no_grad()
    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """Two rounds over the masks, a batch at a time; only predictions (K, R) are kept."""
        size = (forward.x.shape[2], forward.x.shape[3])
        forwards = MaskedForwards(engine, forward.x, classes)
        maps = []
        for b, P in enumerate(forward.scores):
            A = forward.A[b]
            cells = (min_max(A[A.amax((1, 2)) > A.amin((1, 2))]) > _THRESHOLD).float()
            V = forward.x.new_zeros(size)
            if len(cells):
                chunks = torch.split(cells, forwards.batch_size)
                seen_through = forwards.predictions(
                    (b, upsample(chunk, size, forward.grid)) for chunk in chunks
                )
                weights = similarity_difference(P, seen_through) * uniqueness(seen_through)
                for chunk, w in zip(chunks, torch.split(weights, forwards.batch_size), strict=True):
                    V += torch.einsum("n,nhw->hw", w, upsample(chunk, size, forward.grid))
            maps.append(V)
        return Maps(min_max(torch.stack(maps)))


def similarity_difference(P: Tensor, masked: Tensor) -> Tensor:
    """SD (n,) of predictions ``masked`` (n, R) to that of the whole image, P (R,)."""
    return torch.exp(-(masked - P).square().sum(1) / (2 * _SIGMA**2))


def uniqueness(masked: Tensor) -> Tensor:
    """U (n,): the distances from each prediction (n, R) to all others, summed."""
    # Not by matrix multiplication: near predictions would cancel to noise.
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(masked, masked, compute_mode=exact).sum(1)
