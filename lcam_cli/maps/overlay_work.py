"""Drawing an image's overlays and writing their files, in the process that has read the image.

Imports no matplotlib and no h5py: a reading process has neither.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lcam_cli.errors import BadImageError
from lcam_cli.images.preprocess import Window
from lcam_cli.maps.atomic import current_umask, write_atomically
from lcam_cli.maps.caption import caption_strip, joined
from lcam_cli.maps.colour_bar import colour_bar
from lcam_cli.maps.contour import draw_contour
from lcam_cli.maps.overlay import Colours, CropBox, bands_of, draw_levels
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
    """What all overlays of a run have in common; small enough to go along with every image.

    Attributes:
        colours: The colour map, and how strong it is.
        picture_format: Of the files.
        colorbar: Whether a strip below the image shows the colours.
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
    """One map of an image, and the file that it is drawn to.

    Attributes:
        levels: V as it is drawn, 255 for the brightest colour, uint8 ``(H, W)``.
        crop_box: x0, y0, x1, y1 of V in the image, in pixels.
        caption: Lines below the image.
        target: The file; absolute.
        limit: The value of V that the brightest colour stands for, in (0, 1].
        region: What is outlined of the map, bool ``(H, W)``; None for nothing.
    """

    levels: NDArray[np.uint8]
    crop_box: CropBox
    caption: Sequence[str]
    target: str
    limit: float = 1.0
    region: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class OverlayWork:
    """The overlays of one image: a ``PictureWork``.

    Attributes:
        look: What they look like.
        overlays: They, in order.
    """

    look: OverlayLook
    overlays: Sequence[Overlay]

    def do(self, picture: Image.Image) -> str:
        """Draw them and write their files, each whole or not at all; syncing is the asker's.

        A large image needs about 8 bytes a pixel, those of ``picture`` included, and 12 for
        several overlays, or as JPEG or WebP with something written below.

        Args:
            picture: RGB, upright. The last one is drawn on it.

        Returns:
            Nothing; or, where the system refuses to write one, which: ``NUMBER ERRNO BYTES``.

        Raises:
            BadImageError: The image is too large for the format.
        """
        os.umask(self.look.umask)
        last = len(self.overlays) - 1
        for number, one in enumerate(self.overlays):
            drawn = picture if number == last else picture.copy()
            strips = draw_overlay(drawn, one, self.look)
            pieces = encoded(drawn, strips, self.look.picture_format)
            try:
                write_atomically(Path(one.target), *pieces, synced=False)
            except OSError as error:
                return f"{number} {error.errno or 0} {sum(map(len, pieces))}"
        return ""


def draw_overlay(picture: Image.Image, one: Overlay, look: OverlayLook) -> list[Image.Image]:
    """Draw a map over an image, in place; return what stands below it, strips of its width."""
    draw_levels(picture, one.levels, one.crop_box, look.colours)
    if one.region is not None:
        draw_contour(picture, one.region, one.crop_box)
    strips = []
    if (caption := caption_strip(picture.size, one.caption)) is not None:
        strips.append(caption)
    if look.colorbar:
        strips.append(colour_bar(picture.size, look.colours.table, look.window, one.limit))
    return strips


def encoded(
    picture: Image.Image, strips: Sequence[Image.Image], picture_format: OverlayFormat
) -> list[bytes | memoryview]:
    """Return a file's bytes, in pieces.

    Args:
        picture: What is shown.
        strips: What stands below it, of its width.
        picture_format: Of the file.

    Raises:
        BadImageError: The image is too large for the format.
    """
    if picture_format == "png":
        height = picture.height + sum(strip.height for strip in strips)
        return list(encode_png_in_bands(height, _rows_of(picture, strips)))
    picture = joined(picture, strips)
    width, height = picture.size
    longest = _LONGEST_SIDE[picture_format]
    if max(width, height) > longest:
        raise BadImageError(
            f"it cannot be drawn as {picture_format}: of its {width} × {height} pixels, one side "
            f"has more than {longest} (--overlay-format png has no limit)"
        )
    out = io.BytesIO()
    try:
        picture.save(out, _PILLOW_FORMAT[picture_format], **_SAVE_OPTIONS[picture_format])
    except (OSError, ValueError) as error:
        raise BadImageError(f"it cannot be drawn as {picture_format}: {error}") from error
    return [out.getbuffer()]


def _rows_of(picture: Image.Image, strips: Sequence[Image.Image]) -> Iterator[NDArray[np.uint8]]:
    """Yield the rows of an image and of what stands below it, many at a time."""
    whole = (0, 0, *picture.size)
    *bands, last = bands_of(whole, _PIXELS_AT_ONCE)
    for band in bands:
        yield np.asarray(picture.crop(band))
    end = np.asarray(picture if last == whole else picture.crop(last))
    # One array of all for a small image: that is compressed in one go.
    yield np.concatenate([end, *map(np.asarray, strips)]) if strips else end
