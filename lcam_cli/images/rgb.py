"""From whatever a picture file holds to 8-bit RGB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_BAND = 256
"""Rows: a large picture is converted in bands, for which a few bytes a pixel suffice."""

_WHITE_OF_16_BITS = 65535.0
_NARROW = 8


class Levels(NamedTuple):
    """The values of a picture of more than 8 bits.

    Attributes:
        low: The least.
        high: The greatest.
        black: What becomes 0.
        white: What becomes 255.
    """

    low: float
    high: float
    black: float
    white: float

    @property
    def are_narrow(self) -> bool:
        """Whether they differ, but lie within an eighth of the range from black to white."""
        return 0 < _NARROW * (self.high - self.low) < self.white - self.black


def levels_of(
    picture: Image.Image, *, bits: int | None = None, deep_colour: bool = False
) -> Levels | None:
    """Return the values of a picture of more than 8 bits, and what is made of them.

    Args:
        picture: Loaded.
        bits: Of grey, where the file says so and they are fewer than 16.
        deep_colour: Whether its file has 16 bits a channel, of which Pillow keeps the upper 8.

    Returns:
        None for pictures of 8 bits.
    """
    if picture.mode.startswith("I"):
        return _grey_levels(picture, (2.0**bits - 1 if bits else _WHITE_OF_16_BITS,))
    if picture.mode == "F":
        return _grey_levels(picture, (1.0, 255.0, _WHITE_OF_16_BITS))
    if deep_colour:
        # Without alpha, which comes last.
        colours = [name for name in picture.getbands() if name not in ("A", "a")]
        edges = [picture.getchannel(name).getextrema() for name in colours]
        values = np.array(edges, np.float64)
        low, high = float(values.min()), float(values.max())
        return Levels(256 * low, 256 * high + 255, 0.0, _WHITE_OF_16_BITS)
    return None


def to_rgb(picture: Image.Image, levels: Levels | None = None) -> Image.Image:
    """Return the picture in mode RGB.

    - Transparency is laid over white, the page most such pictures are drawn for; what lies beneath
      it in the file is often black or garbage that nobody was meant to see.
    - 16-bit grey is scaled by 1/257, so that 65535 becomes 255; grey whose file has 12 bits, by
      255/4095.
    - Float and 32-bit grey: the file does not tell what its white is. It is taken to be 1 (float
      only), 255 (float only) or 65535, the least that holds every value; where none does or a value
      is negative, the values are stretched from their least to their greatest. NaN and infinities
      become 0 first.
    - CMYK is converted without its colour profile, as Pillow and torchvision do.

    Args:
        picture: Loaded, in any mode.
        levels: Those of grey of more than 8 bits; None to look for them.
    """
    if picture.mode.startswith("I") or picture.mode == "F":
        levels = levels or levels_of(picture)
        assert levels is not None
        return _grey_to_rgb(picture, levels)
    if picture.has_transparency_data:
        page = Image.new("RGB", picture.size, "white")
        for top, band in _bands(picture):
            rgba = band.convert("RGBA")
            page.paste(rgba, (0, top), mask=rgba)
        return page
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def as_array(picture: Image.Image) -> NDArray[np.uint8]:
    """Return a picture of mode RGB as an array (H, W, 3), in little more than its own memory."""
    pixels = np.empty((picture.height, picture.width, 3), np.uint8)
    for top, band in _bands(picture):
        pixels[top : top + band.height] = np.asarray(band)
    return pixels


def _grey_levels(picture: Image.Image, whites: tuple[float, ...]) -> Levels:
    edges = [(values.min(), values.max()) for _, values in _values(picture)]
    low, high = float(min(low for low, _ in edges)), float(max(high for _, high in edges))
    if low < 0:
        return Levels(low, high, low, high)
    return Levels(low, high, 0.0, next((white for white in whites if high <= white), high))


def _grey_to_rgb(picture: Image.Image, levels: Levels) -> Image.Image:
    scale = 255 / ((levels.white - levels.black) or 1)
    rgb = Image.new("RGB", picture.size)
    for top, values in _values(picture):
        grey = np.rint((values - levels.black) * scale).astype(np.uint8)
        rgb.paste(Image.fromarray(grey).convert("RGB"), (0, top))
    return rgb


def _values(picture: Image.Image) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield the finite values of each band of grey, and where it begins."""
    for top, band in _bands(picture):
        values: NDArray[Any] = np.asarray(band).astype(np.float64)
        yield top, np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


def _bands(picture: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield bands of rows, and where each begins; a picture of one band itself."""
    width, height = picture.size
    if height <= _BAND:
        yield 0, picture
        return
    for top in range(0, height, _BAND):
        yield top, picture.crop((0, top, width, min(top + _BAND, height)))
