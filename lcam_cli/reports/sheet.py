"""What figures are put together from: tiles, all of one shape, letters, and a PNG for print."""

from __future__ import annotations

import functools
from pathlib import Path

from PIL import Image, ImageFont

from lcam_cli.errors import LcamError
from lcam_cli.maps.atomic import atomic_file

# Pixels. At 300 dots an inch a tile is an inch wide, so that six fit a page's width.
_TILE = 300
GAP = 8
LETTERS = 30
SMALL_LETTERS = 25
_DPI = (300, 300)


def tile_size(height: int, width: int) -> tuple[int, int]:
    """Return width and height of a tile that has the shape of a view, the longer side an inch."""
    scale = _TILE / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def save_figure(sheet: Image.Image, target: Path) -> None:
    """Write a PNG, whole or not at all; an old one is replaced.

    Raises:
        LcamError: It cannot be written.
    """
    try:
        with atomic_file(target) as temporary:
            sheet.save(temporary, format="PNG", dpi=_DPI)
    except OSError as error:
        raise LcamError(
            f"cannot write {target}: {error.strerror or error}", "name another --figure"
        ) from error


def shortened(text: str, width: int) -> str:
    """Return the text, cut with … where it is wider than ``width`` pixels in small letters."""
    letters = font(SMALL_LETTERS)
    if letters.getlength(text) <= width:
        return text
    while text and letters.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font of all figures, ``size`` pixels high."""
    # DejaVu comes with matplotlib; Pillow's own font has no letter beyond ASCII.
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)
