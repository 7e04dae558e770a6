"""The formats that Pillow reads with decoders of its own."""

from __future__ import annotations

import functools
import re
import warnings
from typing import BinaryIO

from PIL import Image, ImageFile

from lcam_cli.errors import BadImageError
from lcam_cli.images.picture import Picture, PictureFormat, ReadOptions
from lcam_cli.images.rgb import Levels, levels_of, to_rgb

# Process-wide, at import: what Pillow warns about a file (odd metadata, many pixels) is either
# harmless or comes back as the reason of a BadImageError, and would break into a progress bar.
warnings.filterwarnings("ignore", module=r"PIL\.")

# A list of our own. EPS starts Ghostscript and WMF, HDF5, GRIB and the like need outside handlers,
# so what is not named here is never tried. HEIF is there only if a plugin has registered it with
# Pillow.
_FORMATS = (
    *("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF"),
    *("TGA", "PCX", "PSD", "QOI", "SGI"),
)

_ORIENTATION_TAG = 0x0112
_BITS_TAG = 0x0102
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@functools.cache
def readable_formats() -> tuple[str, ...]:
    """Return Pillow's names of the formats this installation can read."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@functools.cache
def _extensions() -> frozenset[str]:
    # Multi-picture JPEGs have a name of their own in Pillow but are opened as JPEG.
    formats = {*readable_formats(), "MPO"}
    return frozenset(ext.lower() for ext, name in Image.EXTENSION.items() if name in formats)


class PillowFormats(PictureFormat):
    """All of them. Pillow recognises its files itself, while it opens them."""

    @property
    def extensions(self) -> frozenset[str]:  # type: ignore[override]
        """Those of all formats that this installation can read."""
        return _extensions()

    def read(self, file: BinaryIO, options: ReadOptions) -> Picture:
        """Read a picture, in mode RGB. Of an animation or several pages it is the first.

        A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size, quicker and with slightly other
        pixels. Pillow's own, process-wide limit is raised to that of the options, never lowered.

        Raises:
            BadImageError: It is too large, cut short or damaged.
            PIL.UnidentifiedImageError: It is in none of the formats.
        """
        # Benign if two threads race: both only ever raise the limit, and there is a check below.
        if Image.MAX_IMAGE_PIXELS is not None and options.max_pixels > Image.MAX_IMAGE_PIXELS:
            Image.MAX_IMAGE_PIXELS = options.max_pixels
        try:
            return _read(file, options)
        except Image.DecompressionBombError as error:
            # Pillow refuses these while opening; only its message knows how many pixels there are.
            count = re.search(r"\d+", str(error))
            size = f"{int(count[0]):,}" if count else "a great many"
            raise options.too_many(size) from error


def _read(file: BinaryIO, options: ReadOptions) -> Picture:
    with Image.open(file, formats=readable_formats()) as picture:
        options.check_size(*picture.size)
        if options.shorter_side is not None:
            picture.draft(None, (options.shorter_side, options.shorter_side))
        deep_colour = _has_deep_colour(picture)
        try:
            picture.load()
        except (MemoryError, Image.DecompressionBombError):
            raise
        except Exception as error:
            state = "truncated" if "truncated" in str(error).lower() else "damaged"
            raise BadImageError(f"{state} {picture.format}") from error
        return Picture(*upright_rgb(picture, deep_colour=deep_colour))


def upright_rgb(
    picture: Image.Image, *, deep_colour: bool = False
) -> tuple[Image.Image, Levels | None]:
    """Return a picture in mode RGB, turned upright, and its values if they have more than 8 bits.

    Args:
        picture: In any mode.
        deep_colour: Whether its file has 16 bits a channel, of which Pillow keeps the upper 8.
    """
    picture.load()
    # Read after load(): a PNG may hold it behind the pixels, and a TIFF is upright by then.
    turn = _TO_UPRIGHT.get(_orientation(picture))
    levels = levels_of(picture, bits=_bits(picture), deep_colour=deep_colour)
    rgb = to_rgb(picture, levels)
    return rgb if turn is None else rgb.transpose(turn), levels


def _has_deep_colour(picture: ImageFile.ImageFile) -> bool:
    """Whether the file has 16 bits a channel, where Pillow will keep 8."""
    if picture.mode.startswith(("I", "F")):
        return False
    return any(tile[0] == "SGI16" or ";16" in str(tile[3]) for tile in picture.tile)


def _bits(picture: Image.Image) -> int | None:
    """Return the bits of grey, where a TIFF has 9 to 15, whose values Pillow leaves as they are."""
    declared = getattr(picture, "tag_v2", {}).get(_BITS_TAG, ())
    return int(declared[0]) if len(declared) == 1 and 8 < declared[0] < 16 else None


def _orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) if there is none or the EXIF block is broken."""
    try:
        return int(picture.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # a good picture is not refused for bad metadata
        return 1
