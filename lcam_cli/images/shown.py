"""What the network sees, as an image for people: 8-bit RGB of any number of channels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_RGB = 3


def as_rgb(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Return views of images as RGB.

    Args:
        images: uint8 (..., C), or floats (..., C) in [0, 1], which are rounded to 8 bits; what
            lies beyond is clipped. C is at least 1.

    Returns:
        uint8 (..., 3): one channel three times, three as they are; of others the first three, and
        of two a blue of 0. Where nothing has to be changed, ``images`` itself.
    """
    channels = images.shape[-1]
    shown = in_8_bits(images[..., :_RGB] if channels > _RGB else images)
    if channels == 1:
        return np.repeat(shown, _RGB, axis=-1)
    if channels < _RGB:
        black = np.zeros((*images.shape[:-1], _RGB - channels), np.uint8)
        return np.concatenate([shown, black], axis=-1)
    return shown


def in_8_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return floats in [0, 1] as 0 to 255, rounded and clipped; uint8 as it is."""
    if values.dtype == np.uint8:
        return values
    levels: NDArray[np.uint8] = np.rint(values.clip(0, 1) * 255).astype(np.uint8)
    return levels
