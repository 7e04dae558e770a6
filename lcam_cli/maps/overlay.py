"""Saliency laid over the image it explains, at the image's own resolution."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lcam_cli.errors import LcamError, did_you_mean
from lcam_cli.maps.caption import caption_strip, joined
from lcam_cli.maps.display import display_levels
from lcam_cli.maps.record import Floats

CropBox = tuple[float, float, float, float]
Box = tuple[int, int, int, int]

# Brightness rises evenly with V, so it survives grey print and every kind of colour blindness; its
# orange and yellow stand out from most photographs, where viridis' greens drown in foliage.
DEFAULT_COLORMAP = "inferno"
DEFAULT_ALPHA = 0.8

# What the network never saw keeps so much of its colour and of its light: a matrix from RGB to RGB,
# with the luma of ITU-R BT.601 for what becomes grey.
_UNSEEN_COLOUR = 0.3
_UNSEEN_LIGHT = 0.55
_LUMA = (0.299, 0.587, 0.114)
_DIM = tuple(
    _UNSEEN_LIGHT * (_UNSEEN_COLOUR * (k == channel) + (1 - _UNSEEN_COLOUR) * luma)
    for channel in range(3)
    for k, luma in enumerate((*_LUMA, 0.0))
)

_PIXELS_AT_ONCE = 1 << 20


@functools.cache
def colour_table(name: str) -> NDArray[np.uint8]:
    """Return a colour map as 256 RGB colours, uint8 ``(256, 3)``.

    Args:
        name: Any name matplotlib knows.

    Raises:
        LcamError: if there is no such colour map.
    """
    # Late: it takes half a second, and most runs draw no overlay.
    from matplotlib import colormaps  # noqa: PLC0415

    if name not in colormaps:
        hint = (
            did_you_mean(name, list(colormaps))
            or "use a name from matplotlib's list of colour maps"
        )
        raise LcamError(f"there is no colour map {name!r}", hint)
    table: NDArray[np.uint8] = colormaps[name](np.linspace(0, 1, 256), bytes=True)[:, :3]
    return table


def overlay(
    picture: Image.Image,
    saliency: Floats,
    crop_box: CropBox,
    *,
    colormap: str = DEFAULT_COLORMAP,
    alpha: float = DEFAULT_ALPHA,
    caption: str | None = None,
    limit: float = 1.0,
) -> Image.Image:
    """Draw V over the part of the image that the network saw, and dim the rest.

    The colours weigh ``alpha · V``, so that where V is 0 the image stays as it is. (With one
    weight everywhere, as Grad-CAM's figures have it, the dark end of the colours veils it.)

    Args:
        picture: RGB, upright, at any size; it is not changed.
        saliency: V, float ``(H, W)`` in [0, 1].
        crop_box: x0, y0, x1, y1 of V in the image, in pixels, with fractions.
        colormap: Any name matplotlib knows.
        alpha: Weight of the colours where V is 1, in [0, 1]; 0 shows the image alone.
        caption: A line below the image, shortened to fit; left out below an image with a side
            of less than 64 pixels.
        limit: The value of V that the brightest colour stands for, in (0, 1]; see
            :func:`~lcam_cli.maps.display.display_limit`.

    Returns:
        RGB, at the image's size; taller with a caption.

    Raises:
        LcamError: if there is no such colour map.
        ValueError: if alpha leaves [0, 1].
    """
    drawn = picture.copy()
    draw_levels(drawn, display_levels(saliency, limit), crop_box, Colours.of(colormap, alpha))
    strip = caption_strip(drawn.size, [caption]) if caption else None
    return joined(drawn, [strip] if strip else [])


@dataclass(frozen=True)
class Colours:
    """A colour map and its strength, without the library that knows its name.

    Attributes:
        table: 256 RGB colours, uint8 ``(256, 3)``.
        alpha: Weight of the colours where V is 1, in [0, 1].
    """

    table: NDArray[np.uint8]
    alpha: float = DEFAULT_ALPHA

    @classmethod
    def of(cls, colormap: str, alpha: float = DEFAULT_ALPHA) -> Colours:
        """Look up a colour map.

        Raises:
            LcamError: if there is no such colour map.
            ValueError: if alpha leaves [0, 1].
        """
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha is {alpha}, not in [0, 1]")
        return cls(colour_table(colormap), alpha)


def draw_levels(
    picture: Image.Image, levels: NDArray[np.uint8], crop_box: CropBox, colours: Colours
) -> None:
    """Draw V over an image, in place; see :func:`overlay`.

    In bands of rows, so that a large image needs but a byte a pixel more than it has.

    Args:
        picture: RGB.
        levels: V times 255, rounded, uint8 ``(H, W)``.
        crop_box: Where that lies in the image, in pixels.
        colours: How V is coloured.
    """
    box = pixels_in(crop_box, picture.size)
    for strip in _around(box, picture.size):
        for band in bands_of(strip, _PIXELS_AT_ONCE):
            picture.paste(picture.crop(band).convert("RGB", _DIM), band[:2])
    if box is None:
        return
    table = colours.table.tobytes()
    weights = _weights(colours.alpha)
    whole = stretched(levels, crop_box, box)
    for band in bands_of(box, _PIXELS_AT_ONCE):
        left, top, right, bottom = band
        grey = whole.crop((left - box[0], top - box[1], right - box[0], bottom - box[1]))
        weight = grey.point(weights)
        # As a palette image, so that Pillow looks the colours up.
        grey.putpalette(table)
        picture.paste(grey.convert("RGB"), band[:2], weight)


@functools.cache
def _weights(alpha: float) -> list[int]:
    """Return the weight of the colours for each level of V, in 0 to 255."""
    return [round(alpha * level) for level in range(256)]


def bands_of(box: Box, pixels: int) -> Iterator[Box]:
    """Yield bands of rows of a part of an image; all of it where it has no more pixels."""
    left, top, right, bottom = box
    rows = max(pixels // (right - left), 1)
    for first in range(top, bottom, rows):
        yield left, first, right, min(first + rows, bottom)


def pixels_in(crop_box: CropBox, size: tuple[int, int]) -> Box | None:
    """Return the box of the pixels whose centres the crop covers; None where there are none."""
    x0, y0, x1, y1 = crop_box
    across, down = _covered(x0, x1, size[0]), _covered(y0, y1, size[1])
    return (across[0], down[0], across[1], down[1]) if across and down else None


def _covered(begin: float, end: float, length: int) -> tuple[int, int] | None:
    """Return the pixels whose centres lie in a part of a line: the first, and behind the last.

    Of a part between two centres that is the pixel in its middle; None where it is outside.
    """
    first = max(int(np.ceil(begin - 0.5)), 0)
    stop = min(int(np.ceil(end - 0.5)), length)
    if first < stop:
        return first, stop
    if not max(begin, 0.0) < min(end, float(length)):
        return None
    middle = min(max(int((begin + end) / 2), 0), length - 1)
    return middle, middle + 1


def stretched(levels: NDArray[Any], crop_box: CropBox, box: Box) -> Image.Image:
    """Return V over the pixels of ``box``, resized bilinearly: 8-bit grey, or of floats mode F."""
    height, width = levels.shape
    x0, y0, x1, y1 = crop_box
    across, down = width / (x1 - x0), height / (y1 - y0)
    # The part of V that lies over the box; rounding to whole pixels may reach a bit beyond V.
    part = (
        max((box[0] - x0) * across, 0.0),
        max((box[1] - y0) * down, 0.0),
        min((box[2] - x0) * across, float(width)),
        min((box[3] - y0) * down, float(height)),
    )
    grey = Image.fromarray(levels)
    return grey.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.BILINEAR, box=part)


def _around(box: Box | None, size: tuple[int, int]) -> list[Box]:
    """Return what lies above, below, left and right of the box; the whole image without one."""
    width, height = size
    if box is None:
        return [(0, 0, width, height)]
    left, top, right, bottom = box
    strips = [
        (0, 0, width, top),
        (0, bottom, width, height),
        (0, top, left, bottom),
        (right, top, width, bottom),
    ]
    return [strip for strip in strips if strip[0] < strip[2] and strip[1] < strip[3]]
