"""Reading one image: upright, with the channels of a network, or a short reason why not."""
# Paths stay strings, as in find.py.
# ruff: noqa: PTH116

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from lcam_cli.errors import BadImageError
from lcam_cli.images.channels import pixels_of
from lcam_cli.images.formats import (
    extension_of,
    formats_for,
    is_table,
    picture_extensions,
    plugin_formats,
)
from lcam_cli.images.picture import HEAD_BYTES, Picture, ReadOptions
from lcam_cli.images.pixels import Pixels
from lcam_cli.images.rgb import Levels
from lcam_cli.images.unread import why_not_read

MAX_PIXELS = 178_956_970
"""The largest image read unless told otherwise: 512 MiB as RGB, where Pillow too draws a line."""


def read_picture(
    path: str, *, max_pixels: int = MAX_PIXELS, shorter_side: int | None = None
) -> Image.Image:
    """Return the whole image in mode RGB, upright; see :func:`read_pixels`."""
    pixels, _ = read_pixels(path, ReadOptions(max_pixels, shorter_side))
    return Image.fromarray(pixels.as_rgb())


def read_pixels(
    path: str,
    options: ReadOptions,
    *,
    channels: int = 3,
    place: tuple[int, int] | None = None,
    name: str = "",
    number: int | None = None,
) -> tuple[Pixels, Levels | None]:
    """Return the image with the channels of a network, turned upright by its EXIF orientation.

    Of an animation or a multi-page file the first image is read; see
    :mod:`lcam_cli.images.channels` for colours and values. May be called from many threads at once.

    Args:
        path: A regular file in a format of :mod:`lcam_cli.images.formats`, whatever its extension.
        options: An image with more than ``max_pixels`` is refused from its header, before
            anything is decoded; ``shorter_side`` lets a JPEG be decoded smaller than it is.
        channels: How many the network takes.
        place: Where in the file, a tar, the image begins, and how long it is, in bytes.
        name: What the image is called, where it is in a tar.
        number: Of the image, in a file that holds several; None for one that does not.

    Returns:
        It, and its values where they have more than 8 bits and no window is given.

    Raises:
        BadImageError: Anything wrong with the file; its reason is a short phrase for people.
    """
    if number is not None:
        options = replace(options, entry=number)
    with opened(path) as file:
        if place is None:
            picture = _decode(file, path, options, number)
        else:
            picture = _decode(_part(file, *place), name, options, number)
        return pixels_of(picture, channels, options.window)


def count_pictures(
    path: str, *, place: tuple[int, int] | None = None, name: str = ""
) -> tuple[int, str]:
    """Return how many images a file says it holds, and what to say about it, if anything.

    See :func:`read_pixels`.

    Raises:
        BadImageError: It cannot be read.
    """
    with opened(path) as file:
        part = file if place is None else _part(file, *place)
        head = part.read(HEAD_BYTES)
        extension = extension_of(name or path)
        family = next((one for one in formats_for(extension, head) if one.holds_several), None)
        if family is None:
            if is_table(extension):
                raise BadImageError("not a table of images, or damaged at its start")
            return 1, ""
        part.seek(0)
        count = family.count(part)
        part.seek(0)
        return count, family.note(part)


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
        raise BadImageError("a folder, not an image")
    if not stat.S_ISREG(status.st_mode):
        raise BadImageError("not a regular file")
    if status.st_size == 0:
        raise BadImageError("empty file")
    # Not to block either if a pipe has taken the file's place since.
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")


def _part(file: BinaryIO, begin: int, length: int) -> BinaryIO:
    if length == 0:
        raise BadImageError("no such image in its tar, or an empty image")
    file.seek(begin)
    return io.BytesIO(file.read(length))


def _decode(file: BinaryIO, name: str, options: ReadOptions, number: int | None = None) -> Picture:
    head = file.read(HEAD_BYTES)
    for one in formats_for(extension_of(name), head):
        if number is not None and not one.holds_several:
            continue
        file.seek(0)
        if one.is_table:
            if number is None:
                raise BadImageError("a table of images, with no image named")
            # Not a table again: these hold files of other formats, and no tables.
            return _decode(io.BytesIO(one.extract(file, number)), "", options)
        try:
            picture = one.read(file, options)
        except UnidentifiedImageError:
            continue
        options.check_size(*picture.size)
        return picture
    if number is not None:
        raise BadImageError(
            f"no such file, and what is before #{number} does not hold several images"
        )
    raise BadImageError("; ".join(_why_none_reads(name, head)))


def _why_none_reads(name: str, head: bytes) -> Iterator[str]:
    """Why no format reads a file; a plug-in that does not load here might be the one that does."""
    yield why_not_read(name, head) or "not an image, or damaged at its start"
    if extension_of(name) not in {"", *picture_extensions()}:
        yield from plugin_formats().failures


def _phrase(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    # An argument is invalid where a file names a place in itself that no file can have.
    if isinstance(error, OSError) and error.strerror and error.errno != errno.EINVAL:
        return error.strerror.lower()
    return "damaged image"
