"""Occlusion: what the score loses where a patch hides the image.

Zeiler, Fergus: Visualizing and Understanding Convolutional Networks, ECCV 2014.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.engine.masked import MaskedForwards
from lcam_cli.methods.attention import min_max
from lcam_cli.methods.base import Maps

_PATCHES_A_SIDE = 7


class Occlusion:
    """V = ζ(D), D at a pixel the mean of f_y(X) − f_y(X hidden) over the patches that hide it.

    f_y is the score. A patch is 1/7 of each side long, rounded, and moves by half of that; the last
    of a row may be cut off at the border. Where it hides, the normalised image is zero, which is
    the mean colour. It needs scores alone.

    Args:
        backbone: The classifier; the size of its images says how many patches there are.
    """

    name = "occlusion"

    def __init__(self, backbone: Backbone) -> None:
        _, *size = backbone.preprocess.input_shape
        down, across = (patches(length) for length in size)
        self.params: dict[str, Any] = {
            "patch": [int(axis.sum(1).max()) for axis in (down, across)],
            "patches": [len(down), len(across)],
        }
        self.forward_passes = len(down) * len(across)

    @torch.no_grad()
    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """A forward pass a patch."""
        down, across = (patches(length).to(forward.x) for length in forward.x.shape[2:])
        forwards = MaskedForwards(engine, forward.x, classes)

        def masks() -> Iterator[Tensor]:
            hidden = [(row, column) for row in down for column in across]
            for start in range(0, len(hidden), forwards.batch_size):
                rows, columns = zip(*hidden[start : start + forwards.batch_size], strict=True)
                yield 1 - torch.stack(rows)[:, :, None] * torch.stack(columns)[:, None]

        pictures = range(len(forward.x))
        scores = forwards.scores((picture, some) for picture in pictures for some in masks())
        drop = forward.confidence(classes)[:, None] - scores.view(len(forward.x), -1)
        D = down.T @ drop.view(-1, len(down), len(across)) @ across
        hiding = down.sum(0)[:, None] * across.sum(0)
        return Maps(min_max(D / hiding))


def patches(length: int) -> Tensor:
    """Which of ``length`` pixels each patch hides along a side, (n, length), 0 or 1."""
    patch = max(1, round(length / _PATCHES_A_SIDE))
    stride = max(1, patch // 2)
    count = 1 - (patch - length) // stride  # so many until one reaches the end
    start = stride * torch.arange(count)[:, None]
    pixel = torch.arange(length)
    return ((pixel >= start) & (pixel < start + patch)).float()
