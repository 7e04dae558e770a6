"""The strip below an overlay: which colour stands for which value, and the image's window."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lcam_cli.images.depth import number_text
from lcam_cli.images.preprocess import Window
from lcam_cli.maps.caption import GROUND, LINE, font, letter_size

_EDGE = (150, 150, 150)
_LEAST_PART = 0.5  # of the width, which the labels leave to the bar

# Words beside the ends of the bar: the first that leave it room.
_LABELS = (("least ", " most"), ("map ", ""), ("", ""))


class _Bar(NamedTuple):
    """Where the bar begins and ends, in pixels, and the labels beside it."""

    left: int
    right: int
    labels: tuple[str, str]


def colour_bar(
    size: tuple[int, int], table: NDArray[np.uint8], window: Window = "auto", limit: float = 1.0
) -> Image.Image:
    """Return the strip that stands below an overlay.

    The bar shows the colour map from V = 0, the least salient, to the most. (Over the image the
    colours are as strong as ``alpha`` and the map have them.) Letters are as large as the
    caption's, and those that the width has no room for are left out.

    Args:
        size: The image's width and height, in pixels.
        table: The colour map as 256 RGB colours, uint8 ``(256, 3)``.
        window: The values of the file that the image shows as black and as white; ``"auto"``,
            where they are each file's own, is not written.
        limit: The value of V where the colours end, in (0, 1].

    Returns:
        RGB, as wide as the image.
    """
    width, letters = size[0], letter_size(size)
    line = round(letters * LINE)
    margin = min(letters // 2, width // 4)
    text = window_text(window)
    if font(letters).getlength(text) > width - 2 * margin:
        text = ""
    strip = Image.new("RGB", (width, line * (2 if text else 1)), GROUND)
    bar = _bar(width, margin, letters, "1" if limit >= 1 else f"≥ {limit:.2g}")
    top, bottom = (line - letters) // 2, (line + letters) // 2
    draw = ImageDraw.Draw(strip)
    draw.rectangle((bar.left - 1, top - 1, bar.right, bottom), fill=_EDGE)
    strip.paste(_colours(table, bar.right - bar.left, bottom - top), (bar.left, top))
    left, right = bar.labels
    draw.text((margin, line / 2), left, fill="white", font=font(letters), anchor="lm")
    draw.text((width - margin, line / 2), right, fill="white", font=font(letters), anchor="rm")
    draw.text((margin, line * 1.5), text, fill="white", font=font(letters), anchor="lm")
    return strip


def window_text(window: Window) -> str:
    """Return a window in words: ``window 0–4095``; nothing for ``"auto"``."""
    if window == "auto":
        return ""
    low, high = map(number_text, window)
    # A dash before or behind a minus is hard to read.
    return f"window {low} to {high}" if min(window) < 0 else f"window {low}–{high}"


def _bar(width: int, margin: int, size: int, end: str) -> _Bar:
    """Return where the bar is in a strip of this width, and its labels, from 0 to ``end``."""
    for before, behind in _LABELS:
        labels = f"{before}0", f"{end}{behind}"
        left, right = (2 * margin + round(font(size).getlength(label)) for label in labels)
        if width - left - right >= width * _LEAST_PART:
            return _Bar(left, width - right, labels)
    return _Bar(margin, width - margin, ("", ""))


def _colours(table: NDArray[np.uint8], width: int, height: int) -> Image.Image:
    levels = np.rint(np.linspace(0, 255, width)).astype(np.uint8)
    row = Image.fromarray(table[levels][None])
    return row.resize((width, height), Image.Resampling.NEAREST)
