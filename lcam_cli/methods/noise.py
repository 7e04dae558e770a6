"""``random``: the floor that every table shows. A map that knows nothing scores this much."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.methods.base import Maps


class RandomMap:
    """Uniform noise of P×Q cells, brought to V as a class activation map is."""

    name = "random"
    forward_passes = 0

    def __init__(self, seed: int = 0) -> None:
        self.params: dict[str, Any] = {"seed": seed}
        self._seed = seed

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """Draw each map from the seed, the image and the class, whatever the batch around it."""
        cells = np.stack(
            [
                np.random.default_rng([self._seed, checksum, int(r)]).random(
                    forward.A.shape[2:], dtype=np.float32
                )
                for checksum, r in zip(checksums(forward.x), classes, strict=True)
            ]
        )
        return Maps.of_cam(torch.from_numpy(cells).to(engine.device), forward)


def checksums(x: Tensor) -> list[int]:
    """Return a number for each image, by its pixels: a seed that goes with the image.

    Args:
        x: Pixels (B, C, H, W) in [0, 1].

    Returns:
        B checksums of 32 bits, of the pixels as bytes.
    """
    pictures = x.permute(0, 2, 3, 1).mul(255).round().byte().cpu().numpy()
    return [zlib.crc32(picture.tobytes()) for picture in pictures]
