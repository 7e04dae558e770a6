"""Colours of 8 bits, and the values of images that have more."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lcam_cli.images.pixels import BAND, bands

WHITE_OF_16_BITS = 65535.0
_NARROW = 8


class Levels(NamedTuple):
    """The values of an image of more than 8 bits.

    Attributes:
        low: The least.
        high: The greatest.
        black: What becomes 0, unless ``--window`` says other.
        white: What becomes 1.
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
    pixels: Image.Image | NDArray[Any], *, bits: int | None = None, deep_colour: bool = False
) -> Levels | None:
    """Return the values of an image of more than 8 bits, and what becomes 0 and 1.

    - Of 16 bits, or as many as ``bits``, it is the whole range of the type.
    - Of 32 bits, 64 bits and floats the file does not tell what its white is. It is taken to be 1
      (floats only), 255 (floats only) or 65535, the least that holds every value; where none does
      or a value is negative, the values are stretched from their least to their greatest. NaN and
      infinities are 0.

    Args:
        pixels: A Pillow image, loaded, or an array (H, W) or (H, W, C) of numbers.
        bits: Of grey, where the file says so and they are fewer than 16.
        deep_colour: Whether a Pillow image's file has 16 bits a channel, of which Pillow keeps
            the upper 8.

    Returns:
        None for images of 8 bits and booleans.
    """
    if isinstance(pixels, Image.Image):
        if not is_deep_grey(pixels):
            return _levels_of_deep_colour(pixels) if deep_colour else None
        pixels = np.asarray(pixels)
    if has_8_bits(pixels.dtype):
        return None
    low, high = _extremes(pixels)
    if bits is not None:
        return Levels(low, high, 0.0, 2.0**bits - 1)
    if pixels.dtype.kind != "f" and pixels.dtype.itemsize <= 2:
        whole = np.iinfo(pixels.dtype)
        return Levels(low, high, float(whole.min), float(whole.max))
    if low < 0:
        return Levels(low, high, low, high)
    whites = (1.0, 255.0, WHITE_OF_16_BITS) if pixels.dtype.kind == "f" else (WHITE_OF_16_BITS,)
    return Levels(low, high, 0.0, next((white for white in whites if high <= white), high))


def is_deep_grey(picture: Image.Image) -> bool:
    """Whether a Pillow image is grey of more than 8 bits."""
    return picture.mode.startswith("I") or picture.mode == "F"


def _levels_of_deep_colour(picture: Image.Image) -> Levels:
    # Without alpha, which comes last.
    colours = [name for name in picture.getbands() if name not in ("A", "a")]
    values = np.array([picture.getchannel(name).getextrema() for name in colours], np.float64)
    low, high = float(values.min()), float(values.max())
    return Levels(256 * low, 256 * high + 255, 0.0, WHITE_OF_16_BITS)


def has_8_bits(dtype: np.dtype[Any]) -> bool:
    """Whether values of a type are 0 to 255, or no and yes."""
    return dtype in (np.uint8, np.bool_)


def _extremes(values: NDArray[Any]) -> tuple[float, float]:
    parts = (finite(values[top : top + BAND]) for top in range(0, len(values), BAND))
    edges = [(part.min(), part.max()) for part in parts]
    return float(min(low for low, _ in edges)), float(max(high for _, high in edges))


def finite(values: NDArray[Any]) -> NDArray[Any]:
    """Return values with 0 for NaN and infinities."""
    if values.dtype.kind != "f":
        return values
    numbers: NDArray[Any] = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    return numbers


def over_white(
    values: NDArray[Any], white: float, *, is_associated: bool = False, is_inverted: bool = False
) -> NDArray[Any]:
    """Return colours with transparency, their last channel, laid over white.

    Args:
        values: Whole numbers (H, W, C + 1).
        white: The greatest value; that of the last channel is opaque.
        is_associated: Whether colours are multiplied by their opacity already.
        is_inverted: Whether 0 is white.

    Returns:
        (H, W, C), of the same type; a band of floats is all that is in memory besides.
    """
    beneath = 0.0 if is_inverted else white
    over = np.empty((*values.shape[:-1], values.shape[-1] - 1), values.dtype)
    for top in range(0, len(values), BAND):
        band = values[top : top + BAND]
        opacity = band[..., -1:] / white
        seen = band[..., :-1] * (1 if is_associated else opacity) + (1 - opacity) * beneath
        over[top : top + BAND] = np.rint(seen).clip(0, white)
    return over


def in_rgb_or_grey(picture: Image.Image) -> Image.Image:
    """Return an image of 8 bits in mode RGB, or in mode L where it has no colours.

    - Transparency is laid over white, the page most such images are drawn for; what lies beneath
      it in the file is often black or garbage that nobody was meant to see.
    - CMYK is converted without its colour profile, as Pillow and torchvision do.

    Args:
        picture: Loaded, in any mode of 8 bits.
    """
    if picture.has_transparency_data:
        page = Image.new("RGB", picture.size, "white")
        for top, band in bands(picture):
            rgba = band.convert("RGBA")
            page.paste(rgba, (0, top), mask=rgba)
        return page
    if picture.mode in ("L", "1"):
        return picture.convert("L")
    return picture if picture.mode == "RGB" else picture.convert("RGB")
