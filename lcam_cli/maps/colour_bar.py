"""The strip below an overlay: which colour stands for which value, and the picture's window."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lcam_cli.images.depth import number_text
from lcam_cli.images.preprocess import Window
from lcam_cli.maps.overlay import font, letter_size

# Neither end of a colour map is this grey, so that the bar shows from end to end.
_GROUND = (56, 56, 56)
_EDGE = (150, 150, 150)
_LINE = 1.6  # height of a line, in heights of its letters
_LEAST_PART = 0.5  # of the width, which the labels leave to the bar

# Labels left and right of the bar: the first that leave it room.
_LABELS = (("map 0", "1"), ("0", "1"))


class _Bar(NamedTuple):
    """Where the bar begins and ends, in pixels, and the labels beside it."""

    left: int
    right: int
    labels: tuple[str, str]


def with_colour_bar(
    picture: Image.Image, table: NDArray[np.uint8], window: Window = "auto"
) -> Image.Image:
    """Return an overlay with a strip below it; nothing of the overlay changes.

    The bar shows the colour map from 0 to 1. (Over the picture the colours are as strong as
    ``alpha`` and the map have them.) Letters are as large as the caption's, and those that the
    width has no room for are left out.

    Args:
        picture: RGB; it is not changed.
        table: The colour map as 256 RGB colours, uint8 ``(256, 3)``.
        window: The values of the file that the picture shows as black and as white; ``"auto"``,
            where they are each file's own, is not written.

    Returns:
        RGB, as wide as ``picture`` and taller.
    """
    width, height = picture.size
    size = letter_size(picture.size)
    line = round(size * _LINE)
    margin = min(size // 2, width // 4)
    text = window_text(window)
    if font(size).getlength(text) > width - 2 * margin:
        text = ""
    taller = Image.new("RGB", (width, height + line * (2 if text else 1)), _GROUND)
    taller.paste(picture)
    bar = _bar(width, margin, size)
    middle = height + line / 2
    top, bottom = height + (line - size) // 2, height + (line + size) // 2
    draw = ImageDraw.Draw(taller)
    draw.rectangle((bar.left - 1, top - 1, bar.right, bottom), fill=_EDGE)
    taller.paste(_colours(table, bar.right - bar.left, bottom - top), (bar.left, top))
    left, right = bar.labels
    draw.text((margin, middle), left, fill="white", font=font(size), anchor="lm")
    draw.text((width - margin, middle), right, fill="white", font=font(size), anchor="rm")
    draw.text((margin, middle + line), text, fill="white", font=font(size), anchor="lm")
    return taller


def window_text(window: Window) -> str:
    """Return a window in words: ``window 0–4095``; nothing for ``"auto"``."""
    if window == "auto":
        return ""
    low, high = map(number_text, window)
    # A dash before or behind a minus is hard to read.
    return f"window {low} to {high}" if min(window) < 0 else f"window {low}–{high}"


def _bar(width: int, margin: int, size: int) -> _Bar:
    """Return where the bar is in a strip of this width, and its labels."""
    for labels in _LABELS:
        left, right = (2 * margin + round(font(size).getlength(label)) for label in labels)
        if width - left - right >= width * _LEAST_PART:
            return _Bar(left, width - right, labels)
    return _Bar(margin, width - margin, ("", ""))


def _colours(table: NDArray[np.uint8], width: int, height: int) -> Image.Image:
    levels = np.rint(np.linspace(0, 255, width)).astype(np.uint8)
    row = Image.fromarray(table[levels][None])
    return row.resize((width, height), Image.Resampling.NEAREST)
