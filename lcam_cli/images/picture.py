"""What an image format is: how its files are recognised, and how one of them becomes an image."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, BinaryIO

from numpy.typing import NDArray
from PIL import Image

from lcam_cli.errors import BadImageError
from lcam_cli.images.preprocess import Window
from lcam_cli.images.rgb import Levels

HEAD_BYTES = 348
"""How many bytes of a file are looked at to recognise it."""


@dataclass(frozen=True)
class ReadOptions:
    """How large an image may be, and need be.

    Attributes:
        max_pixels: Width times height above which an image is refused.
        shorter_side: Pixels. The image may be decoded smaller than it is, so long as both sides
            stay at least this long; None for its own size.
        window: The values of the file that become 0 and 1; ``"auto"``: the file's own, else its
            type's whole range. For formats whose values come about by more than a scale, as
            DICOM's: whoever leaves an image's ``levels`` and values as they are need not look.
        entry: Which image of a file that holds several, from 0.
    """

    max_pixels: int
    shorter_side: int | None = None
    window: Window = "auto"
    entry: int = 0

    def check_size(self, width: int, height: int, channels: int = 3) -> None:
        """Refuse a size in pixels that a header declares, before anything is decoded.

        Args:
            width: In pixels.
            height: In pixels.
            channels: Of an image of more than three channels, every three count as a pixel.

        Raises:
            BadImageError: There are too many pixels, or none.
        """
        if width * height * max(channels, 3) > 3 * self.max_pixels:
            more = f" × {channels}" if channels > 3 else ""
            raise self.too_many(f"{width} × {height}{more}")
        if width * height == 0:
            raise BadImageError("an image without pixels")

    def too_many(self, size: str) -> BadImageError:
        """Return the error of an image that is too large; ``size`` says how large, in words."""
        return BadImageError(f"too many pixels: {size}, over --max-pixels {self.max_pixels}")


@dataclass(frozen=True)
class Picture:
    """What a file holds.

    Attributes:
        pixels: Upright: a Pillow image in any mode, or the file's values, (H, W) or (H, W, C) of
            booleans, whole numbers or floats. Those of more than 8 bits keep their values until
            they are floats in [0, 1].
        levels: The values of an image of more than 8 bits: the least and the greatest, and what
            becomes 0 and 1 unless ``--window`` says other; None to look for them in ``pixels``.
            With pixels of 8 bits, black and white are the file's values that 0 and 255 stand for.
        inverted: Whether the least value is white (DICOM's MONOCHROME1).
    """

    pixels: Image.Image | NDArray[Any]
    levels: Levels | None = None
    inverted: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, in pixels."""
        if isinstance(self.pixels, Image.Image):
            return self.pixels.size
        return self.pixels.shape[1], self.pixels.shape[0]


def head_of(path: str) -> bytes:
    """Return how a file begins; nothing where it cannot be read, or is a pipe or a device."""
    try:
        if not os.path.isfile(path):  # noqa: PTH113
            return b""
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read(HEAD_BYTES)
    except (OSError, ValueError):
        return b""


def identity_of(file: BinaryIO) -> tuple[int, ...] | None:
    """Return what tells an open file from others, and from itself after a change.

    None for bytes in memory, as those of a file in a tar are.
    """
    try:
        status = os.fstat(file.fileno())
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class PictureFormat:
    """A family of image formats; those who add one derive from it.

    Attributes:
        extensions: Those of its files, lower case with the dot: ``(".npy",)``.
        name: What it is called where it crashes or hangs; lcam's word for it, also for a plug-in's.
        holds_several: Whether a file may hold several images: then :meth:`count` is asked, and
            they are called ``FILE#0``, ``FILE#1``, … with ``digits`` digits at least. A file that
            holds one is called by its own name, unless it is a table.
        digits: How many digits the number of an image has at least.
        needs_no_extension: Whether its files often have none, or any: those in a folder whose first
            bytes are recognised are images by that.
        is_table: Whether a file is a table of image files, which :meth:`extract` gives: its only
            image has a number too, what cannot be counted is left out, and tables within tars are
            not read.
    """

    extensions: Collection[str] = ()
    name: str = "its decoder"
    holds_several: bool = False
    digits: int = 1
    needs_no_extension: bool = False
    is_table: bool = False

    def recognises(self, head: bytes) -> bool | None:
        """Whether a file is of the family; None where its bytes do not tell.

        Args:
            head: The first :data:`HEAD_BYTES` of the file; all of a shorter one.
        """
        del head
        return None

    def count(self, file: BinaryIO) -> int:
        """How many images a file holds, from its header; runs in a reading process.

        A table of other things holds none.

        Raises:
            BadImageError: Anything wrong with the file.
        """
        del file
        return 1

    def note(self, file: BinaryIO) -> str:
        """What to say about a table, once a run, such as which of several columns is read."""
        del file
        return ""

    def extract(self, file: BinaryIO, number: int) -> bytes:
        """Return the image file at a place of a table, from 0; it is read as any other file is.

        Raises:
            BadImageError: There is none; anything wrong with the table.
        """
        raise NotImplementedError

    def read(self, file: BinaryIO, options: ReadOptions) -> Picture:
        """Read an image. Several threads may call it at once.

        Args:
            file: The file, at its beginning; ``seek`` works.
            options: How large the image may be.

        Raises:
            BadImageError: Anything wrong with the file; its reason is a short phrase for people.
        """
        raise NotImplementedError
