"""Letters on overlays: their size and font, and the strip of lines below the image."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

GROUND = (56, 56, 56)
"""Of strips below overlays. Neither end of a colour map is this grey."""

LINE = 1.6
"""Height of a line, in heights of its letters."""

# Pixels: in a smaller image no letter can be read.
_SMALLEST_CAPTIONED = 64
_SMALLEST_LETTERS = 10
_FONT = "fonts/ttf/DejaVuSans.ttf"


def letter_size(size: tuple[int, int]) -> int:
    """Return the height of letters for an image of this width and height, in pixels."""
    return max(round(min(size) * 0.05), _SMALLEST_LETTERS)


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Return letters of this height, in pixels."""
    return ImageFont.truetype(_font_file(), size)


@functools.cache
def _font_file() -> Path:
    """Return the file of DejaVu Sans, which comes with matplotlib.

    Pillow's own font has no letter beyond ASCII.
    """
    # Importing matplotlib takes as long as drawing a hundred overlays.
    found = importlib.util.find_spec("matplotlib")
    if found is not None and found.origin is not None:
        usual = Path(found.origin).with_name("mpl-data") / _FONT
        if usual.is_file():
            return usual
    import matplotlib  # noqa: PLC0415 (some systems have its data elsewhere)

    return Path(matplotlib.get_data_path(), _FONT)


def caption_strip(size: tuple[int, int], lines: Sequence[str]) -> Image.Image | None:
    """Return white letters on a dark strip, to stand below an image.

    Args:
        size: The image's width and height, in pixels.
        lines: What is written; a line that is too long is shortened, its last word kept.

    Returns:
        RGB, as wide as the image; None without lines, or for an image that is too small.
    """
    if not lines or min(size) < _SMALLEST_CAPTIONED:
        return None
    width, letters = size[0], letter_size(size)
    margin, line = letters // 2, round(letters * LINE)
    strip = Image.new("RGB", (width, line * len(lines)), GROUND)
    draw = ImageDraw.Draw(strip)
    for number, words in enumerate(lines):
        text, fitting = _fit(" ".join(words.split()), letters, width - 2 * margin)
        middle = (margin, (number + 0.5) * line)
        draw.text(middle, text, fill="white", font=font(fitting), anchor="lm")
    return strip


def _fit(text: str, size: int, width: int) -> tuple[str, int]:
    """Return the text and its size so that it fits: first smaller letters, then fewer."""
    smallest = max(round(size * 0.7), _SMALLEST_LETTERS)
    while font(size).getlength(text) > width and size > smallest:
        size -= 1
    # The end is the score, so letters go from before it.
    name, _, score = text.rpartition(" ")
    while font(size).getlength(text) > width and name:
        name = name[:-1]
        text = f"{name.rstrip()}… {score}"
    return text, size


def joined(picture: Image.Image, strips: Sequence[Image.Image]) -> Image.Image:
    """Return an image with strips of its width below it; the image itself without any."""
    if not strips:
        return picture
    height = picture.height + sum(strip.height for strip in strips)
    taller = Image.new("RGB", (picture.width, height))
    top = 0
    for part in (picture, *strips):
        taller.paste(part, (0, top))
        top += part.height
    return taller
