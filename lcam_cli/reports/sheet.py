"""What figures are put together from: tiles, all of one shape, letters, and a file for print."""

from __future__ import annotations

import base64
import functools
import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFont

from lcam_cli.errors import LcamError
from lcam_cli.maps.atomic import atomic_file
from lcam_cli.maps.display import display_limit
from lcam_cli.maps.overlay import overlay

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


def shown_over(view: Image.Image, V: NDArray[Any], *, of_pixels: bool) -> Image.Image:
    """Return a map over the whole of a view.

    Args:
        view: RGB.
        V: float (H, W) in [0, 1], but for rounding.
        of_pixels: Whether it is one of a method of single pixels, whose colours end at the 99th
            percentile.
    """
    V = V.astype(np.float32).clip(0, 1)
    limit = display_limit(V) if of_pixels else 1.0
    return overlay(view, V, (0, 0, *view.size), limit=limit)


def save_figure(sheet: Image.Image, target: Path) -> None:
    """Write a PNG, PDF or SVG, by the file's extension, whole or not at all.

    An old one is replaced. PDF and SVG have the size of the PNG in print, and its pixels without
    loss.

    Raises:
        LcamError: It cannot be written.
    """
    try:
        with atomic_file(target) as temporary:
            match target.suffix.lower():
                case ".pdf":
                    temporary.write_bytes(_pdf(sheet))
                case ".svg":
                    temporary.write_text(_svg(sheet), "ascii")
                case _:
                    sheet.save(temporary, format="PNG", dpi=_DPI)
    except OSError as error:
        raise LcamError(
            f"cannot write {target}: {error.strerror or error}", "pass another --figure"
        ) from error


def _png(sheet: Image.Image) -> bytes:
    data = io.BytesIO()
    sheet.save(data, format="PNG", dpi=_DPI)
    return data.getvalue()


def _svg(sheet: Image.Image) -> str:
    """A page of the sheet's size in inches, with its PNG in it."""
    (width, height), (across, down) = sheet.size, _DPI
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{width / across:g}in" height="{height / down:g}in" '
        f'viewBox="0 0 {width} {height}">\n<image width="{width}" height="{height}" '
        f'xlink:href="data:image/png;base64,{base64.b64encode(_png(sheet)).decode()}"/>\n</svg>\n'
    )


def _pdf(sheet: Image.Image) -> bytes:
    """One page of the sheet's size; Pillow's own PDF would have JPEG's errors around letters."""
    width, height = sheet.size
    across, down = (72 * pixels / dots for pixels, dots in zip(sheet.size, _DPI, strict=True))
    pixels = zlib.compress(sheet.convert("RGB").tobytes(), 9)
    drawn = f"q {across:.3f} 0 0 {down:.3f} 0 0 cm /Im Do Q".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {across:.3f} {down:.3f}] /Contents 4 0 R "
        f"/Resources << /XObject << /Im 5 0 R >> >> >>".encode(),
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(drawn), drawn),
        b"<< /Type /XObject /Subtype /Image /Width %d /Height %d /ColorSpace /DeviceRGB "
        b"/BitsPerComponent 8 /Filter /FlateDecode /Length %d >>\nstream\n%b\nendstream"
        % (width, height, len(pixels), pixels),
    ]
    data, places = bytearray(b"%PDF-1.4\n"), []
    for number, content in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = len(data)
    data += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    data += b"".join(b"%010d 00000 n \n" % place for place in places)
    data += b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1,
        table,
    )
    return bytes(data)


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
