"""Reading one picture: upright, RGB, or a short reason why not."""
# Paths stay strings, as in find.py.
# ruff: noqa: PTH116

from __future__ import annotations

import io
import os
import re
import stat
import warnings
from typing import BinaryIO

from PIL import Image, ImageFile, UnidentifiedImageError

from lcam_cli.errors import BadImageError
from lcam_cli.images.formats import readable_formats
from lcam_cli.images.rgb import Levels, levels_of, to_rgb
from lcam_cli.images.unread import HEAD_BYTES, why_not_read

MAX_PIXELS = 178_956_970
"""The largest picture read unless told otherwise: 512 MiB as RGB, where Pillow too draws a line."""

# Process-wide, at import: what Pillow warns about a file (odd metadata, many pixels) is either
# harmless or comes back as the reason of a BadImageError, and would break into a progress bar.
warnings.filterwarnings("ignore", module=r"PIL\.")

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


def read_picture(
    path: str,
    *,
    max_pixels: int = MAX_PIXELS,
    shorter_side: int | None = None,
    place: tuple[int, int] | None = None,
) -> Image.Image:
    """Return the picture in mode RGB, upright; see :func:`read_with_levels`."""
    return read_with_levels(path, max_pixels=max_pixels, shorter_side=shorter_side, place=place)[0]


def read_with_levels(
    path: str,
    *,
    max_pixels: int = MAX_PIXELS,
    shorter_side: int | None = None,
    place: tuple[int, int] | None = None,
) -> tuple[Image.Image, Levels | None]:
    """Return the picture in mode RGB, turned upright by its EXIF orientation.

    Of an animation or a multi-page file the first picture is read; see ``to_rgb`` for other
    colour modes. May be called from many threads at once.

    Args:
        path: A regular file in a format of ``readable_formats``, whatever its extension.
        max_pixels: Width times height above which the picture is refused, from its header, before
            anything is decoded. Pillow's own process-wide limit is raised to it, never lowered.
        shorter_side: Pixels. Lets a JPEG be decoded at 1/2, 1/4 or 1/8 of its size, quicker and
            with slightly other pixels, so long as both sides stay at least this long.
        place: Where in the file, a tar, the picture begins, and how long it is, in bytes.

    Returns:
        It, and its values where they have more than 8 bits.

    Raises:
        BadImageError: Anything wrong with the file; its reason is a short phrase for people.
    """
    # Benign if two threads race: both only ever raise the limit, and _decode checks its own.
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        with _open_regular(path) as file:
            picture = file if place is None else _part(file, *place)
            try:
                return _decode(picture, max_pixels, shorter_side)
            except UnidentifiedImageError:
                picture.seek(0)
                why = why_not_read("" if place else path, picture.read(HEAD_BYTES))
                raise BadImageError(why or "not a picture, or damaged at its start") from None
    except BadImageError:
        raise
    except MemoryError as error:
        raise BadImageError("not enough memory to decode it") from error
    except Exception as error:  # decoders raise nearly every type there is
        raise BadImageError(_phrase(error, max_pixels)) from error


def _open_regular(path: str) -> BinaryIO:
    """Open a file that has content; a pipe or device is refused without waiting on it."""
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise BadImageError("a folder, not a picture")
    if not stat.S_ISREG(status.st_mode):
        raise BadImageError("not a regular file")
    if status.st_size == 0:
        raise BadImageError("empty file")
    # Not to block either if a pipe has taken the file's place since.
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")


def _part(file: BinaryIO, begin: int, length: int) -> BinaryIO:
    if length == 0:
        raise BadImageError("no such picture in its tar, or an empty one")
    file.seek(begin)
    return io.BytesIO(file.read(length))


def _decode(
    file: BinaryIO, max_pixels: int, shorter_side: int | None
) -> tuple[Image.Image, Levels | None]:
    with Image.open(file, formats=readable_formats()) as picture:
        width, height = picture.size
        if width * height > max_pixels:
            raise BadImageError(_too_many(f"{width} × {height}", max_pixels))
        if width * height == 0:
            raise BadImageError("a picture without pixels")
        if shorter_side is not None:
            picture.draft(None, (shorter_side, shorter_side))
        deep_colour = _has_deep_colour(picture)
        try:
            picture.load()
        except (MemoryError, Image.DecompressionBombError):
            raise
        except Exception as error:
            state = "truncated" if "truncated" in str(error).lower() else "damaged"
            raise BadImageError(f"{state} {picture.format}") from error
        return upright_rgb(picture, deep_colour=deep_colour)


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
    told = getattr(picture, "tag_v2", {}).get(_BITS_TAG, ())
    return int(told[0]) if len(told) == 1 and 8 < told[0] < 16 else None


def _orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) if there is none or the EXIF block is broken."""
    try:
        return int(picture.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # a good picture is not refused for bad metadata
        return 1


def _phrase(error: Exception, max_pixels: int) -> str:
    if isinstance(error, Image.DecompressionBombError):
        # Pillow refuses these while opening; only its message knows how many pixels there are.
        count = re.search(r"\d+", str(error))
        return _too_many(f"{int(count[0]):,}" if count else "a great many", max_pixels)
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "damaged picture"


def _too_many(size: str, max_pixels: int) -> str:
    return f"too many pixels: {size}, over --max-pixels {max_pixels}"
