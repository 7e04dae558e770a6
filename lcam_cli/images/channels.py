"""From what a file holds to the channels that the network takes, of 8 bits or of floats in [0, 1].

- An image of 8 bits stays one, unless a window is given. All else becomes floats.
- One channel: the luminance of ITU-R 601, of 8 bits as Pillow's ``convert("L")`` rounds it. Three:
  grey three times. Any other number has to be the file's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from lcam_cli.errors import BadImageError, plural
from lcam_cli.images.picture import Picture
from lcam_cli.images.pixels import FloatPlane, Pixels
from lcam_cli.images.preprocess import Window
from lcam_cli.images.rgb import (
    Levels,
    finite,
    has_8_bits,
    in_rgb_or_grey,
    is_deep_grey,
    levels_of,
)

_RGB = 3
_LUMINANCE = (0.299, 0.587, 0.114)
_LARGEST_EXACT = 2.0**24
"""Whole numbers up to this are exact as float32."""

Rows = Callable[[slice], NDArray[Any]]
"""Gives some rows of a channel's values, (rows, W)."""


def pixels_of(
    picture: Picture, channels: int = _RGB, window: Window = "auto"
) -> tuple[Pixels, Levels | None]:
    """Return an image with the channels of a network.

    Args:
        picture: What a file holds.
        channels: How many the network takes.
        window: The values of the file that become 0 and 1, in place of the image's ``levels``.
            Those of an image of 8 bits are 0 to 255.

    Returns:
        It, and its levels: None where it has 8 bits, or a window is given.

    Raises:
        BadImageError: It has another number of channels, or no value that is a number.
    """
    planes = _planes_of_8_bits(picture.pixels, channels)
    if planes is None:
        _check_numbers(np.asarray(picture.pixels))
        rows = _rows_of(picture.pixels, channels)
        levels = picture.levels
        if window == "auto":
            levels = levels or levels_of(picture.pixels)
            assert levels is not None
            scale = _Scale(levels.black, levels.white, picture.inverted)
        else:
            scale = _Scale(*window, picture.inverted)
            levels = None
        size = picture.size
        return Pixels(size, channels, scale.planes(rows, size)), levels
    size = planes[0].size
    if window == "auto":
        if picture.inverted:
            planes = tuple(ImageChops.invert(plane) for plane in planes)
        return Pixels(size, channels, planes), picture.levels
    rows = [_rows_of_band(plane, name) for plane in planes for name in plane.getbands()]
    scale = _Scale(*_in_8_bits(window, picture), picture.inverted)
    return Pixels(size, channels, scale.planes(rows, size)), None


def _planes_of_8_bits(
    pixels: Image.Image | NDArray[Any], channels: int
) -> tuple[Image.Image, ...] | None:
    """Return images in mode L or RGB with the channels in order; None for more than 8 bits."""
    if isinstance(pixels, Image.Image):
        if is_deep_grey(pixels):
            return None
        return _planes_of_picture(pixels, channels)
    if not has_8_bits(pixels.dtype):
        return None
    values = pixels if pixels.dtype == np.uint8 else pixels.astype(np.uint8) * np.uint8(255)
    own = 1 if values.ndim == 2 else values.shape[2]
    if own in (1, _RGB) and channels in (1, _RGB):
        grey = values.reshape(values.shape[:2]) if own == 1 else values
        return _planes_of_picture(Image.fromarray(np.ascontiguousarray(grey)), channels)
    _check(own, channels)
    return tuple(
        Image.fromarray(np.ascontiguousarray(values[..., channel])) for channel in range(own)
    )


def _planes_of_picture(picture: Image.Image, channels: int) -> tuple[Image.Image, ...]:
    if channels in (1, _RGB):
        plane = in_rgb_or_grey(picture)
        return (plane if channels == _RGB or plane.mode == "L" else plane.convert("L"),)
    if picture.mode in ("P", "PA"):
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    _check(len(picture.getbands()), channels)
    return picture.split()


def _check(own: int, channels: int) -> None:
    if own != channels:
        raise BadImageError(f"it has {plural(own, 'channel')}, but the network takes {channels}")


def _check_numbers(values: NDArray[Any]) -> None:
    # Nearly always the first row tells.
    if values.dtype.kind == "f" and not (np.isfinite(values[0]).any() or np.isfinite(values).any()):
        raise BadImageError("all its values are NaN or infinite")


def _in_8_bits(window: tuple[float, float], picture: Picture) -> tuple[float, float]:
    """Return a window in values from 0 to 255, which may stand for others of the file."""
    if picture.levels is not None:
        black, white = picture.levels.black, picture.levels.white
    else:
        black, white = 0.0, _white_of_8_bits(picture.pixels)
    low, high = (255 * (value - black) / ((white - black) or 1) for value in window)
    return low, high


def _white_of_8_bits(pixels: Image.Image | NDArray[Any]) -> float:
    is_bool = isinstance(pixels, np.ndarray) and pixels.dtype == np.bool_
    return 1.0 if is_bool else 255.0


def _rows_of(pixels: Image.Image | NDArray[Any], channels: int) -> list[Rows]:
    """Return the channels of an image of more than 8 bits: all, or one that is each of them."""
    values = np.asarray(pixels)
    values = values if values.ndim == 3 else values[..., None]
    own = values.shape[2]
    if own == _RGB and channels == 1:
        return [_luminance(values)]
    if own != 1 or channels != _RGB:
        _check(own, channels)
    return [_rows_of_channel(values, channel) for channel in range(own)]


def _rows_of_band(picture: Image.Image, name: str) -> Rows:
    def rows(some: slice) -> NDArray[Any]:
        band = picture.crop((0, some.start, picture.width, some.stop))
        return np.asarray(band.getchannel(name))

    return rows


def _rows_of_channel(values: NDArray[Any], channel: int) -> Rows:
    return lambda some: values[some, :, channel]


def _luminance(values: NDArray[Any]) -> Rows:
    weights = np.array(_LUMINANCE)
    return lambda some: finite(values[some]).astype(np.float64) @ weights


@dataclass(frozen=True)
class _Scale:
    """From values to [0, 1]; what lies beyond is clipped.

    Attributes:
        black: The value that becomes 0.
        white: The value that becomes 1.
        inverted: Whether they become 1 and 0 instead.
    """

    black: float
    white: float
    inverted: bool

    def planes(self, rows: Sequence[Rows], size: tuple[int, int]) -> tuple[FloatPlane, ...]:
        """Return channels that have these values."""
        return tuple(FloatPlane(size, partial(self._rows, one)) for one in rows)

    def _rows(self, rows: Rows, some: slice) -> NDArray[np.float32]:
        return self(rows(some))

    def __call__(self, values: NDArray[Any]) -> NDArray[np.float32]:
        black, white = self.black, self.white
        scaled: NDArray[Any]
        if self._is_exact(values.dtype):
            scaled = values.astype(np.float32)
        else:
            # Halves: the difference of two floats may be more than any float.
            black, white = black / 2, white / 2
            scaled = finite(values).astype(np.float64) / 2
        if black:
            scaled -= black
        scaled /= (white - black) or 1
        np.clip(scaled, 0, 1, out=scaled)
        if self.inverted:
            np.subtract(1, scaled, out=scaled)
        return scaled.astype(np.float32, copy=False)

    def _is_exact(self, dtype: np.dtype[Any]) -> bool:
        """Whether values are whole, the window's are whole or halves, and 32 bits hold them."""
        if dtype.kind not in "ui" or dtype.itemsize > 2:
            return False
        return all(
            2 * value == round(2 * value) and abs(2 * value) < _LARGEST_EXACT
            for value in (self.black, self.white)
        )
