"""Overlays as files: PNG, JPEG or WebP, in a folder that mirrors those of the pictures."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from lcam_cli.errors import BadImageError
from lcam_cli.images.preprocess import Window
from lcam_cli.maps.atomic import cannot_write, human_size, write_atomically
from lcam_cli.maps.colour_bar import with_colour_bar
from lcam_cli.maps.marks import mark_overlays
from lcam_cli.maps.names import claim_folder, output_name
from lcam_cli.maps.overlay import (
    DEFAULT_ALPHA,
    DEFAULT_COLORMAP,
    bands_of,
    colour_table,
    draw_caption,
    draw_saliency,
)
from lcam_cli.maps.png_encoder import encode_png_in_bands
from lcam_cli.maps.record import Map

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
class OverlayStyle:
    """What an overlay looks like.

    Attributes:
        colormap: Any name matplotlib knows.
        alpha: Weight of the colours where V is 1, in [0, 1].
        caption: Whether class name and score stand on the picture.
        colorbar: Whether a strip below the picture shows the colours, and the window if given.
        window: The values of a file that the picture shows as black and as white.
    """

    colormap: str = DEFAULT_COLORMAP
    alpha: float = DEFAULT_ALPHA
    caption: bool = True
    colorbar: bool = False
    window: Window = "auto"


_PLAIN = OverlayStyle()


class OverlayWriter:
    """Writes overlays to a folder that mirrors the folders of the pictures. Thread-safe.

    Args:
        folder: The folder to write into; made with its parents.
        picture_format: ``"png"``, ``"jpg"`` or ``"webp"``.
        style: What the overlays look like.
        may_exist: Whether the user asked to resume or to overwrite.
        shared: Whether other processes write there too, each the overlays of other pictures: then
            what is there is left as it is.

    Raises:
        LcamError: if there is no such colour map, or the folder is not empty or not writable.
    """

    def __init__(
        self,
        folder: Path,
        picture_format: OverlayFormat = "png",
        style: OverlayStyle = _PLAIN,
        *,
        may_exist: bool = False,
        shared: bool = False,
    ) -> None:
        colour_table(style.colormap)
        if not shared:
            claim_folder(folder, may_exist=may_exist)
        self.folder = folder
        self._format = picture_format
        self._style = style
        self._marked = False

    def write(self, picture: Image.Image, row: Map) -> Path:
        """Draw a row over its picture, captioned with class and score, and save it.

        A large picture needs about 8 bytes a pixel, those of ``picture`` included, and
        12 with a colour bar.

        Args:
            picture: The row's picture: RGB, upright. It is drawn on.
            row: The map.

        Returns:
            The file written.

        Raises:
            LcamError: if the disk is full or fails.
            BadImageError: if the picture is too large for the format.
        """
        style = self._style
        draw_saliency(picture, row.saliency, row.crop_box, style.colormap, style.alpha)
        if style.caption:
            draw_caption(picture, f"{row.class_name} {row.confidence:.1%}")
        if style.colorbar:
            picture = with_colour_bar(picture, style.colormap, style.window)
        target = self.folder / output_name(row.path, row.class_index, self._format)
        pieces = _encoded(picture, self._format)
        try:
            if not self._marked:  # before the first, so that no overlay is taken for a picture
                mark_overlays(self.folder)
                self._marked = True
            write_atomically(target, *pieces)
        except OSError as error:
            raise cannot_write(
                target,
                error,
                needed=f"at least {human_size(sum(map(len, pieces)))}",
                hint="free some space, or choose another format or folder for the overlays; "
                "what is there can go on with --resume",
            ) from error
        return target


def _encoded(picture: Image.Image, picture_format: OverlayFormat) -> list[bytes | memoryview]:
    """Return a file's bytes, in pieces."""
    width, height = picture.size
    if picture_format == "png":
        bands = (
            np.asarray(picture.crop(band))
            for band in bands_of((0, 0, width, height), _PIXELS_AT_ONCE)
        )
        return list(encode_png_in_bands(height, bands))
    longest = _LONGEST_SIDE[picture_format]
    if max(width, height) > longest:
        raise BadImageError(
            f"it cannot be drawn as {picture_format}: of {width} × {height} pixels, a side has "
            f"more than {longest}; --overlay-format png has no limit"
        )
    encoded = io.BytesIO()
    try:
        picture.save(encoded, _PILLOW_FORMAT[picture_format], **_SAVE_OPTIONS[picture_format])
    except (OSError, ValueError) as error:
        raise BadImageError(f"it cannot be drawn as {picture_format}: {error}") from error
    return [encoded.getbuffer()]
