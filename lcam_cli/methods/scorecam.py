"""Score-CAM: each feature map is a mask, and its weight the score of what it lets through.

Wang et al.: Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks, CVPR
Workshops 2020.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.engine.grid import Grid
from lcam_cli.engine.masked import MaskedForwards
from lcam_cli.methods.attention import min_max, upsample
from lcam_cli.methods.base import Maps


class ScoreCam:
    """H_k = ζ(θ(A_k)), weight_k = score of y on the image times H_k, L = Σ weight_k H_k.

    Args:
        channels: K, the forward passes a map costs. A constant channel costs none: its H is zero.
    """

    name = "scorecam"

    def __init__(self, channels: int) -> None:
        self.params: dict[str, Any] = {}
        self.forward_passes = channels

    @torch.no_grad()
    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """V = ζ(ReLU(L)): upsampled first, scaled to [0, 1] after."""
        size = (forward.x.shape[2], forward.x.shape[3])
        forwards = MaskedForwards(engine, forward.x, classes)
        varying = forward.A.amax((2, 3)) > forward.A.amin((2, 3))
        # Every term is at least zero, so the definition's ReLU has nothing to do.
        return Maps(min_max(score_weighted(forwards, forward.A, varying, size, forward.grid)))


def score_weighted(
    forwards: MaskedForwards, A: Tensor, kept: Tensor, size: tuple[int, int], grid: Grid | None
) -> Tensor:
    """Σ_k s_k H_k of each image over the channels kept, H_k = ζ(θ(A_k)), s_k its score.

    Args:
        forwards: Scores masked images.
        A: Feature maps, (B, K, P, Q).
        kept: The channels that count, (B, K), bool. Others cost nothing.
        size: (H, W).
        grid: Where the cells of A lie.

    Returns:
        (B, H, W), not normalised.
    """
    L = A.new_zeros(len(A), size[0] * size[1])
    # All channels of all images in one list, so that no image ends a batch early.
    chosen = kept.nonzero()
    owners = chosen[:, 0].tolist()
    for start in range(0, len(owners), forwards.batch_size):
        chunk = slice(start, start + forwards.batch_size)
        picture, channel = chosen[chunk].unbind(1)
        masks = stretch(upsample(A[picture, channel], size, grid))
        scores = forwards.scores(_runs(owners[chunk], masks))
        weights = L.new_zeros(len(A), len(masks))
        weights[picture, torch.arange(len(masks), device=L.device)] = scores
        L.addmm_(weights, masks.flatten(1))
    return L.view(len(A), *size)


def stretch(masks: Tensor) -> Tensor:
    """ζ of (n, H, W), in place: these are the largest tensors here, and fresh ones."""
    low, high = masks.flatten(1).aminmax(dim=1)
    span = high - low
    divisor = torch.where(span > 0, span, 1)
    return masks.sub_(low[:, None, None]).div_(divisor[:, None, None])


def _runs(owners: list[int], masks: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Split masks (n, H, W) where the image that they belong to changes."""
    start = 0
    for picture, same in groupby(owners):
        stop = start + len(list(same))
        yield picture, masks[start:stop]
        start = stop
