"""Reading one picture: upright, RGB, or a short reason why not."""
# Paths stay strings, as in find.py.
# ruff: noqa: PTH116

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from lcam_cli.errors import BadImageError
from lcam_cli.images.formats import (
    extension_of,
    formats_for,
    picture_extensions,
    plugin_formats,
)
from lcam_cli.images.picture import HEAD_BYTES, ReadOptions
from lcam_cli.images.rgb import Levels, levels_of, to_rgb
from lcam_cli.images.unread import why_not_read

MAX_PIXELS = 178_956_970
"""The largest picture read unless told otherwise: 512 MiB as RGB, where Pillow too draws a line."""


def read_picture(
    path: str, *, max_pixels: int = MAX_PIXELS, shorter_side: int | None = None
) -> Image.Image:
    """Return the picture in mode RGB, upright; see :func:`read_with_levels`."""
    return read_with_levels(path, max_pixels=max_pixels, shorter_side=shorter_side)[0]


def read_with_levels(
    path: str,
    *,
    max_pixels: int = MAX_PIXELS,
    shorter_side: int | None = None,
    place: tuple[int, int] | None = None,
    name: str = "",
) -> tuple[Image.Image, Levels | None]:
    """Return the picture in mode RGB, turned upright by its EXIF orientation.

    Of an animation or a multi-page file the first picture is read; see ``to_rgb`` for other
    colour modes. May be called from many threads at once.

    Args:
        path: A regular file in a format of :mod:`lcam_cli.images.formats`, whatever its extension.
        max_pixels: Width times height above which the picture is refused, from its header, before
            anything is decoded.
        shorter_side: Pixels. Lets a JPEG be decoded smaller than it is, so long as both sides stay
            at least this long.
        place: Where in the file, a tar, the picture begins, and how long it is, in bytes.
        name: What the picture is called, where it is in a tar.

    Returns:
        It, and its values where they have more than 8 bits.

    Raises:
        BadImageError: Anything wrong with the file; its reason is a short phrase for people.
    """
    options = ReadOptions(max_pixels, shorter_side)
    with opened(path) as file:
        if place is None:
            return _decode(file, path, options)
        return _decode(_part(file, *place), name, options)


@contextlib.contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """Open a regular file for a block that decodes it.

    Raises:
        BadImageError: Whatever goes wrong with opening it, or in the block.
    """
    try:
        with _open_regular(path) as file:
            yield file
    except BadImageError:
        raise
    except MemoryError as error:
        raise BadImageError("not enough memory to decode it") from error
    except Exception as error:  # decoders raise nearly every type there is
        raise BadImageError(_phrase(error)) from error


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


def _decode(file: BinaryIO, name: str, options: ReadOptions) -> tuple[Image.Image, Levels | None]:
    head = file.read(HEAD_BYTES)
    for one in formats_for(extension_of(name), head):
        file.seek(0)
        try:
            picture = one.read(file, options)
        except UnidentifiedImageError:
            continue
        options.check_size(*picture.pixels.size)
        levels = picture.levels or levels_of(picture.pixels)
        return to_rgb(picture.pixels, levels), levels
    raise BadImageError("; ".join(_why_none_reads(name, head)))


def _why_none_reads(name: str, head: bytes) -> Iterator[str]:
    """Why no format reads a file; a plug-in that does not load here might be the one that does."""
    yield why_not_read(name, head) or "not a picture, or damaged at its start"
    if extension_of(name) not in {"", *picture_extensions()}:
        yield from plugin_formats().failures


def _phrase(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "damaged picture"
