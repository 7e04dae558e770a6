"""Drawing a picture's overlays and writing their files, in the process that has read the picture.

Imports no matplotlib and no h5py: a reading process has neither.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lcam_cli.errors import BadImageError
from lcam_cli.images.preprocess import Window
from lcam_cli.maps.atomic import current_umask, write_atomically
from lcam_cli.maps.colour_bar import with_colour_bar
from lcam_cli.maps.overlay import Colours, CropBox, bands_of, draw_caption, draw_levels
from lcam_cli.maps.png_encoder import encode_png_in_bands

OverlayFormat = Literal["png", "jpg", "webp"]

_SAVE_OPTIONS: dict[str, dict[str, int]] = {
    "jpg": {"quality": 90},
    "webp": {"quality": 85, "method": 2},
}
_PILLOW_FORMAT = {"jpg": "JPEG", "webp": "WEBP"}
_LONGEST_SIDE = {"jpg": 65500, "webp": 16383}  # of the format, and of the library

# In a band of rows that is encoded; it shows in a PNG's bytes.
_PIXELS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class OverlayLook:
    """What all overlays of a run have in common; small enough to go along with every picture.

    Attributes:
        colours: The colour map, and how strong it is.
        picture_format: Of the files.
        colorbar: Whether a strip below the picture shows the colours.
        window: The values of a file that the strip names as black and white.
        umask: Of the program, which may have another one since the reading process began.
    """

    colours: Colours
    picture_format: OverlayFormat
    colorbar: bool = False
    window: Window = "auto"
    umask: int = field(default_factory=current_umask)


@dataclass(frozen=True)
class Overlay:
    """One map of a picture, and the file that it is drawn to.

    Attributes:
        levels: V times 255, rounded, uint8 ``(H, W)``.
        crop_box: x0, y0, x1, y1 of V in the picture, in pixels.
        caption: A line at the bottom; empty for none.
        target: The file; absolute.
    """

    levels: NDArray[np.uint8]
    crop_box: CropBox
    caption: str
    target: str


@dataclass(frozen=True)
class OverlayWork:
    """The overlays of one picture: a ``PictureWork``.

    Attributes:
        look: What they look like.
        overlays: They, in order.
    """

    look: OverlayLook
    overlays: Sequence[Overlay]

    def do(self, picture: Image.Image) -> str:
        """Draw them and write their files, each whole or not at all; syncing is the asker's.

        A large picture needs about 8 bytes a pixel, those of ``picture`` included, and 12 with a
        colour bar or several overlays.

        Args:
            picture: RGB, upright. The last one is drawn on it.

        Returns:
            Nothing; or, where the system refuses to write one, which: ``NUMBER ERRNO BYTES``.

        Raises:
            BadImageError: The picture is too large for the format.
        """
        os.umask(self.look.umask)
        last = len(self.overlays) - 1
        for number, one in enumerate(self.overlays):
            drawn = draw_overlay(picture if number == last else picture.copy(), one, self.look)
            pieces = encoded(drawn, self.look.picture_format)
            try:
                write_atomically(Path(one.target), *pieces, synced=False)
            except OSError as error:
                return f"{number} {error.errno or 0} {sum(map(len, pieces))}"
        return ""


def draw_overlay(picture: Image.Image, one: Overlay, look: OverlayLook) -> Image.Image:
    """Draw a map over a picture, in place; with a colour bar, what comes back is a taller one."""
    draw_levels(picture, one.levels, one.crop_box, look.colours)
    if one.caption:
        draw_caption(picture, one.caption)
    if look.colorbar:
        return with_colour_bar(picture, look.colours.table, look.window)
    return picture


def encoded(picture: Image.Image, picture_format: OverlayFormat) -> list[bytes | memoryview]:
    """Return a file's bytes, in pieces.

    Raises:
        BadImageError: The picture is too large for the format.
    """
    width, height = picture.size
    if picture_format == "png":
        whole = (0, 0, width, height)
        bands = (
            np.asarray(picture if band == whole else picture.crop(band))
            for band in bands_of(whole, _PIXELS_AT_ONCE)
        )
        return list(encode_png_in_bands(height, bands))
    longest = _LONGEST_SIDE[picture_format]
    if max(width, height) > longest:
        raise BadImageError(
            f"it cannot be drawn as {picture_format}: of {width} × {height} pixels, a side has "
            f"more than {longest}; --overlay-format png has no limit"
        )
    out = io.BytesIO()
    try:
        picture.save(out, _PILLOW_FORMAT[picture_format], **_SAVE_OPTIONS[picture_format])
    except (OSError, ValueError) as error:
        raise BadImageError(f"it cannot be drawn as {picture_format}: {error}") from error
    return [out.getbuffer()]
