"""TIFFs of more than Pillow keeps, by tifffile: deep colour, and any number of channels."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lcam_cli.errors import BadImageError
from lcam_cli.images.memory import memory_limited
from lcam_cli.images.picture import Picture, PictureFormat, ReadOptions
from lcam_cli.images.rgb import Levels, over_white
from lcam_cli.images.tiff_layout import channel_stack

if TYPE_CHECKING:
    from tifffile import TiffPage

_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_WHITE_IS_ZERO, _RGB = 0, 2
_GREY_OR_RGB = (0, 1, 2)
_ASSOCIATED, _UNASSOCIATED = 1, 2
_WHOLE_TYPES = (8, 16, 32, 64)

# What a decoder may take besides the image, twice: a strip may unpack to more than it says.
_MEMORY = 1 << 28

# No maker's own way of reading its files: these may follow other files, or hundreds of pages.
_PLAIN = {
    f"is_{kind}": False
    for kind in ("ome", "imagej", "lsm", "ndpi", "scanimage", "stk", "shaped", "micromanager")
}


class Tiff(PictureFormat):
    """Those that Pillow leaves: it is asked first, and knows the extensions.

    The image is the first page. Where the file says that pages are channels (ImageJ, OME and
    tifffile do), it is the first image's channels.
    """

    name = "the decoder of TIFF"

    def recognises(self, head: bytes) -> bool:
        """Whether a file is a TIFF or a BigTIFF."""
        return head.startswith(_MAGICS)

    def read(self, file: BinaryIO, options: ReadOptions) -> Picture:
        """Read the values of all channels, turned upright.

        Raises:
            BadImageError: It is too large, cut short or damaged, or no image of grey, of colours
                or of channels.
        """
        from tifffile import TiffFile  # noqa: PLC0415 (an extra)

        try:
            plain: Any = _PLAIN
            with TiffFile(file, name="picture", _multifile=False, **plain) as opened:
                pages = _pages_of_channels(opened)
                size = _check(pages[0], len(pages), options)
                _check_whole(pages, file)
                with memory_limited(2 * size + _MEMORY):
                    return _picture(pages[0], [_values(page) for page in pages])
        except (BadImageError, MemoryError):
            raise
        except Exception as error:  # it raises nearly every type there is
            raise BadImageError("truncated or damaged TIFF") from error


def _pages_of_channels(opened: Any) -> list[TiffPage]:
    """Return the pages that are the channels of the first image; mostly the first page alone."""
    first: TiffPage = opened.pages[0]
    stack = channel_stack(first.description) if first.samplesperpixel == 1 else None
    if stack is None:
        return [first]
    try:
        return [opened.pages[place] for place in stack.pages]
    except IndexError:  # they are in other files, which is this one's word alone
        return [first]


def _check(page: TiffPage, pages: int, options: ReadOptions) -> int:
    """Refuse what is no image, or too large; return how many bytes its values have."""
    dtype, samples = page.dtype, page.samplesperpixel
    if page.imagedepth > 1:
        raise BadImageError("a TIFF of a volume")
    if dtype is None or np.dtype(dtype).kind not in "buif" or page.bitspersample > 64:
        raise BadImageError("a TIFF whose values are not numbers")
    if page.photometric not in _GREY_OR_RGB:
        raise BadImageError("a deep TIFF whose colours are not grey or RGB")
    options.check_size(page.imagewidth, page.imagelength, samples * pages)
    return page.imagewidth * page.imagelength * samples * pages * np.dtype(dtype).itemsize


def _check_whole(pages: list[TiffPage], file: BinaryIO) -> None:
    """Refuse files in which parts of the image are missing: these would be black.

    Raises:
        BadImageError: One is, or the pages differ.
    """
    end = file.seek(0, os.SEEK_END)
    first = pages[0]
    for page in pages:
        if (page.shape, page.dtype) != (first.shape, first.dtype):
            raise BadImageError("a TIFF whose channels differ in size or type")
        parts = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        if len(parts) < math.prod(page.chunked):
            raise BadImageError("truncated or damaged TIFF")
        for offset, length in parts:
            if length == 0 or offset + length > end:
                raise BadImageError("truncated or damaged TIFF")


def _values(page: TiffPage) -> NDArray[Any]:
    """Return a page's values, (H, W) or (H, W, C)."""
    values: NDArray[Any] = page.asarray(maxworkers=1)
    return np.moveaxis(values, 0, -1) if page.axes == "SYX" else values


def _picture(page: TiffPage, pages: list[NDArray[Any]]) -> Picture:
    values = pages[0] if len(pages) == 1 else np.stack(pages, axis=-1)
    if len(pages) == 1:
        values = _without_alpha(page, values)
    return Picture(
        _upright(values, page.tags.valueof(274, 1)),
        _levels(values, page.bitspersample),
        inverted=page.photometric == _WHITE_IS_ZERO,
    )


def _without_alpha(page: TiffPage, values: NDArray[Any]) -> NDArray[Any]:
    """Lay transparency, where the last channel is one, over white as it is for all images."""
    kinds = tuple(page.extrasamples)
    colours = 3 if page.photometric == _RGB else 1
    is_alpha = kinds in ((_ASSOCIATED,), (_UNASSOCIATED,)) and values.dtype.kind == "u"
    if not is_alpha or values.ndim != 3 or values.shape[2] != colours + 1:
        return values
    over = over_white(
        values,
        2.0**page.bitspersample - 1,
        is_associated=kinds == (_ASSOCIATED,),
        is_inverted=page.photometric == _WHITE_IS_ZERO,
    )
    return over[..., 0] if colours == 1 else over


def _levels(values: NDArray[Any], bits: int) -> Levels | None:
    """Return the levels of whole numbers of odd bits; those of other types are the type's."""
    if bits in _WHOLE_TYPES or values.dtype.kind != "u":
        return None
    return Levels(float(values.min()), float(values.max()), 0.0, 2.0**bits - 1)


def _upright(values: NDArray[Any], orientation: Any) -> NDArray[Any]:
    """Turn values as the tag of that name says, from 1 to 8."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values
