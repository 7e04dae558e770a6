"""What a picture format is: how its files are recognised, and how one of them becomes a picture."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image

from lcam_cli.errors import BadImageError
from lcam_cli.images.rgb import Levels

HEAD_BYTES = 348
"""How many bytes of a file are looked at to recognise it."""


@dataclass(frozen=True)
class ReadOptions:
    """How large a picture may be, and need be.

    Attributes:
        max_pixels: Width times height above which a picture is refused.
        shorter_side: Pixels. The picture may be decoded smaller than it is, so long as both sides
            stay at least this long; None for its own size.
    """

    max_pixels: int
    shorter_side: int | None = None

    def check_size(self, width: int, height: int) -> None:
        """Refuse a size in pixels that a header declares, before anything is decoded.

        Raises:
            BadImageError: There are too many pixels, or none.
        """
        if width * height > self.max_pixels:
            raise self.too_many(f"{width} × {height}")
        if width * height == 0:
            raise BadImageError("a picture without pixels")

    def too_many(self, size: str) -> BadImageError:
        """Return the error of a picture that is too large; ``size`` says how large, in words."""
        return BadImageError(f"too many pixels: {size}, over --max-pixels {self.max_pixels}")


@dataclass(frozen=True)
class Picture:
    """What a file holds.

    Attributes:
        pixels: Upright, in any mode of Pillow's. Grey of more than 8 bits (modes ``I;16``, ``I``
            and ``F``) keeps its values; :func:`lcam_cli.images.rgb.to_rgb` scales it.
        levels: The values of a picture of more than 8 bits; None to look for them in ``pixels``.
    """

    pixels: Image.Image
    levels: Levels | None = None


class PictureFormat:
    """A family of picture formats; those who add one derive from it.

    Attributes:
        extensions: Those of its files, lower case with the dot: ``(".npy",)``.
        name: What it is called where it crashes or hangs; lcam's word for it, also for a plug-in's.
    """

    extensions: Collection[str] = ()
    name: str = "its decoder"

    def recognises(self, head: bytes) -> bool | None:
        """Whether a file is of the family; None where its bytes do not tell.

        Args:
            head: The first :data:`HEAD_BYTES` of the file; all of a shorter one.
        """
        del head
        return None

    def read(self, file: BinaryIO, options: ReadOptions) -> Picture:
        """Read a picture. Several threads may call it at once.

        Args:
            file: The file, at its beginning; ``seek`` works.
            options: How large the picture may be.

        Raises:
            BadImageError: Anything wrong with the file; its reason is a short phrase for people.
        """
        raise NotImplementedError
