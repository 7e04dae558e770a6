"""HEIC and HEIF, as phones write them, by libheif (the extra ``heif``). AVIF is Pillow's."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lcam_cli.errors import BadImageError
from lcam_cli.images.picture import Picture, PictureFormat, ReadOptions
from lcam_cli.images.rgb import Levels, over_white

_HEVC = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"}
_ANY_CODEC = {b"mif1", b"mif2", b"msf1"}
_AVIF = {b"avif", b"avis"}


class Heif(PictureFormat):
    """Of several images in a file it is the primary one."""

    extensions = (".heic", ".heif", ".hif", ".heics")
    name = "the decoder of HEIC"

    def recognises(self, head: bytes) -> bool:
        """Whether the brands of a file are those of HEIC, or of HEIF in another codec than AV1."""
        if head[4:8] != b"ftyp":
            return False
        end = min(int.from_bytes(head[:4], "big"), len(head))
        major, *others = (head[at : at + 4] for at in (8, *range(16, end, 4)))
        if major in _AVIF or major in _HEVC:
            return major in _HEVC
        brands = {major, *others}
        return bool(brands & _HEVC or (brands & _ANY_CODEC and not brands & _AVIF))

    def read(self, file: BinaryIO, options: ReadOptions) -> Picture:
        """Read the primary image, turned as the file says.

        libheif turns it by the container's own boxes; what EXIF says of it besides is for programs
        that do not know these, and would turn it once more.

        Raises:
            BadImageError: It is too large, cut short or damaged, or there is none.
        """
        import pillow_heif  # noqa: PLC0415 (an extra)

        pillow_heif.options.THUMBNAILS = False
        pillow_heif.options.DEPTH_IMAGES = False
        pillow_heif.options.AUX_IMAGES = False
        pillow_heif.options.DECODE_THREADS = 1
        try:
            # Values of more than 8 bits as they are, in the lower bits of 16.
            opened = pillow_heif.open_heif(
                file.read(), convert_hdr_to_8bit=False, hdr_to_16bit=False
            )
            options.check_size(*opened.size)
            opened[opened.primary_index].load()
        except (BadImageError, MemoryError):
            raise
        except Exception as error:  # it raises nearly every type there is
            raise BadImageError("truncated or damaged HEIC") from error
        options.check_size(*opened.size)  # what was decoded may be larger than the header says
        kind, _, bits = opened.mode.partition(";")
        if not bits:
            return Picture(opened.to_pillow())
        white = 2 ** int(bits) - 1
        return _of_more_than_8_bits(np.asarray(opened), white, kind)


def _of_more_than_8_bits(values: NDArray[Any], white: int, kind: str) -> Picture:
    """Return an image, with transparency laid over white as it is for all images.

    Args:
        values: (H, W) or (H, W, C).
        white: The greatest value.
        kind: The letters of the channels; the last is ``a`` where colours are multiplied by it.
    """
    if kind[-1] in "Aa":
        values = over_white(values, white, is_associated=kind[-1] == "a")
    return Picture(values, Levels(float(values.min()), float(values.max()), 0.0, float(white)))
