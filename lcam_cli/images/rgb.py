"""From whatever a picture file holds to 8-bit RGB."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_BAND = 256
"""Rows."""


def to_rgb(picture: Image.Image) -> Image.Image:
    """Return the picture in mode RGB.

    - Transparency is laid over white, the page most such pictures are drawn for; what lies beneath
      it in the file is often black or garbage that nobody was meant to see.
    - 16-bit grey is scaled by 1/257, so that 65535 becomes 255.
    - Float and 32-bit grey: the file does not tell what its white is. It is taken to be 1 (float
      only), 255 (float only) or 65535, the least that holds every value; where none does or a value
      is negative, the values are stretched from their least to their greatest. NaN and infinities
      become 0 first.
    - CMYK is converted without its colour profile, as Pillow and torchvision do.
    """
    if picture.mode.startswith("I"):
        return _grey_to_rgb(picture, whites=(65535,))
    if picture.mode == "F":
        return _grey_to_rgb(picture, whites=(1, 255, 65535))
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        page = Image.new("RGB", rgba.size, "white")
        page.paste(rgba, mask=rgba)
        return page
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _grey_to_rgb(picture: Image.Image, whites: tuple[int, ...]) -> Image.Image:
    values = np.asarray(picture)
    # In bands: in float64 all at once, a large picture would need ten times its own memory.
    bands = [slice(top, top + _BAND) for top in range(0, len(values), _BAND)]
    black = min(_finite(values[band]).min() for band in bands)
    white = max(_finite(values[band]).max() for band in bands)
    if black >= 0:
        black, white = 0.0, next((w for w in whites if white <= w), white)
    scale = 255 / ((white - black) or 1)
    grey = np.empty(values.shape, np.uint8)
    for band in bands:
        grey[band] = np.rint((_finite(values[band]) - black) * scale)
    return Image.fromarray(grey).convert("RGB")


def _finite(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
