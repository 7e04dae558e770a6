"""The formats that Pillow reads with decoders of its own."""

from __future__ import annotations

import functools
import re
import warnings
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from lcam_cli.errors import BadImageError
from lcam_cli.extras import is_installed
from lcam_cli.images.pgm import in_own_values, stretched_white
from lcam_cli.images.picture import Picture, PictureFormat, ReadOptions
from lcam_cli.images.preprocess import Window
from lcam_cli.images.rgb import WHITE_OF_16_BITS, Levels, is_deep_grey, levels_of
from lcam_cli.images.tiff_layout import needs_tifffile

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
_PHOTOMETRIC_TAG = 0x0106
_WHOLE_RANGE = Levels(0.0, WHITE_OF_16_BITS, 0.0, WHITE_OF_16_BITS)
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
        """Read an image, in its own mode. Of an animation or several pages it is the first.

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
        if _is_of_tifffile(picture):
            raise UnidentifiedImageError("tifffile reads it, completely")
        if options.shorter_side is not None:
            picture.draft(None, (options.shorter_side, options.shorter_side))
        deep_colour, white = _has_deep_colour(picture), stretched_white(picture)
        try:
            picture.load()
        except (MemoryError, Image.DecompressionBombError):
            raise
        except Exception as error:
            state = "truncated" if "truncated" in str(error).lower() else "damaged"
            raise BadImageError(f"{state} {picture.format}") from error
        if white is not None:
            return in_own_values(upright(picture, options.window), white)
        return upright(picture, options.window, deep_colour=deep_colour)


def upright(picture: Image.Image, window: Window = "auto", *, deep_colour: bool = False) -> Picture:
    """Return an image turned upright, and its values if they have more than 8 bits.

    Args:
        picture: In any mode.
        window: The values that become 0 and 1. The image's own are looked for where none are
            given.
        deep_colour: Whether its file has 16 bits a channel, of which Pillow keeps the upper 8.
    """
    picture.load()
    # Read after load(): a PNG may hold it behind the pixels, and a TIFF is upright by then.
    turn = _TO_UPRIGHT.get(_orientation(picture))
    turned = picture if turn is None else picture.transpose(turn)
    # One copy, from which bands of rows are taken without another.
    pixels = np.asarray(turned) if is_deep_grey(turned) else turned
    levels = None
    if window == "auto":
        levels = levels_of(pixels, bits=_bits(picture), deep_colour=deep_colour)
    elif deep_colour:
        levels = _WHOLE_RANGE
    return Picture(pixels, levels, _is_inverted(picture))


def _is_inverted(picture: Image.Image) -> bool:
    """Whether 0 is white: Pillow turns the 8 bits of such a TIFF, and leaves deeper ones."""
    return is_deep_grey(picture) and getattr(picture, "tag_v2", {}).get(_PHOTOMETRIC_TAG) == 0


def _is_of_tifffile(picture: ImageFile.ImageFile) -> bool:
    """Whether a file is a TIFF of which Pillow would lose depth or channels, that another reads."""
    if not isinstance(picture, TiffImageFile) or not is_installed("tifffile"):
        return False
    return needs_tifffile(picture.tag_v2)


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
    except Exception:  # a good image is not refused for bad metadata
        return 1
