"""One frame of a DICOM file as the values that it stores; colour as RGB."""

from __future__ import annotations

from math import ceil
from os import SEEK_CUR, SEEK_END
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from lcam_cli.errors import BadImageError
from lcam_cli.extras import install
from lcam_cli.images.dicom_codestream import Size, jpeg_2000_size, jpeg_size
from lcam_cli.images.dicom_header import Header, pixel_file

_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_GREYS = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")

# What a code stream of JPEG, JPEG-LS or JPEG 2000 ends with, but for padding.
_END, _PADDED_END = b"\xff\xd9", 10
# The tags of a piece of compressed pixels, and of the end of all pieces.
_ITEM, _ITEMS_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"


def stored_values(file: BinaryIO, header: Header, index: int) -> NDArray[Any]:
    """Return the values of a frame: no other is decoded.

    Args:
        file: The file that the header is of.
        header: Checked for the frame (``Header.check``).
        index: Of the frame, from 0.

    Returns:
        (rows, columns), or RGB (rows, columns, 3), in the type that holds the allocated bits; it
        may be read-only.

    Raises:
        BadImageError: Its colours are of a kind that is not read, its decoder is missing, or it is
            damaged.
    """
    _check_photometric(header)
    try:
        if header.is_native:
            values, meaning = _native(file, header, index)
        else:
            values, meaning = _compressed(file, header, index)
    except (BadImageError, MemoryError):
        raise
    except Exception as error:  # pydicom and its decoders raise nearly every type there is
        raise BadImageError(
            f"{_encoding(header)} that are damaged or of an unsupported kind"
        ) from error
    if header.samples == 3 and meaning != "RGB":
        raise BadImageError("its kind of colours is not supported")
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _check_photometric(header: Header) -> None:
    what = header.photometric
    if not what:
        raise BadImageError("its header does not say whether its pixels are grey or colour")
    if what not in (_COLOURS if header.samples == 3 else _GREYS):
        raise BadImageError("its kind of colours is not supported")
    if header.samples == 3 and (header.is_float or header.bits == 1):
        raise BadImageError("colours as single bits or floats are not supported")
    if what.startswith("YBR_FULL") and header.bits != 8:
        raise BadImageError("only YBR colours of 8 bits are supported")


def _native(file: BinaryIO, header: Header, index: int) -> tuple[NDArray[Any], str]:
    begin = index * header.frame_bits // 8
    end = ceil((index + 1) * header.frame_bits / 8)
    # One of bytes in swapped pairs need not begin with a pair: pydicom then wants all of them.
    alone = header.bits == 1 or header.frame_bits % 16 == 0
    first = begin if alone else 0
    pixels = pixel_file(file, header, first, end + 1 - first)
    if header.deflated_from is not None and pixels.seek(0, SEEK_END) < end - first:
        raise BadImageError("cut short: its pixels end too early")
    if header.deflated_from is not None:
        pixels.seek(0)
    if header.bits == 1:
        return _bits(pixels.read(end - begin), header, index), header.photometric
    options = _options(header) | {
        "pixel_keyword": header.pixels.keyword,
        "pixel_vr": header.pixels.vr,
        "view_only": header.photometric != "YBR_FULL_422",
        "number_of_frames": 1 if alone else header.frames,
    }
    values, said = get_decoder(header.syntax).as_array(
        pixels, index=0 if alone else index, **options
    )
    return values, str(said["photometric_interpretation"])


def _bits(data: bytes, header: Header, index: int) -> NDArray[Any]:
    """Return a frame of single bits, which need not begin with a byte (PS3.5, 8.1.1).

    pydicom reads too few bytes for those that do not.
    """
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    begin = index * header.frame_bits % 8
    return bits[begin : begin + header.frame_bits].reshape(header.rows, header.columns)


def _compressed(file: BinaryIO, header: Header, index: int) -> tuple[NDArray[Any], str]:
    decoder = get_decoder(header.syntax)
    if not decoder.is_available:
        raise BadImageError(f"{_encoding(header)}, whose decoder is missing: {install('medical')}")
    file.seek(header.pixels.begin)
    frame = get_frame(
        file, index, number_of_frames=header.frames, extended_offsets=_offsets(header)
    )
    _check_frame(frame, header)
    if header.syntax != RLELossless and _END not in frame[-_PADDED_END:] and _is_cut(file, header):
        raise BadImageError(f"{_encoding(header)} that are cut short")  # some decoders fill it up
    options = _options(header) | {"pixel_keyword": "PixelData", "number_of_frames": 1}
    values, said = decoder.as_array(encapsulate([frame], has_bot=False), index=0, **options)
    return values, str(said["photometric_interpretation"])


def _is_cut(file: BinaryIO, header: Header) -> bool:
    """Whether a file ends before the pieces of its pixels do (PS3.5, A.4)."""
    file.seek(header.pixels.begin)
    while True:
        tag, length = file.read(4), file.read(4)
        if tag != _ITEM:
            return tag != _ITEMS_END
        if file.seek(int.from_bytes(length, "little"), SEEK_CUR) > header.size:
            return True


def _options(header: Header) -> dict[str, Any]:
    """Return what pydicom's decoders want to know."""
    return {
        "rows": header.rows,
        "columns": header.columns,
        "samples_per_pixel": header.samples,
        "bits_allocated": header.bits,
        "bits_stored": header.bits_stored,
        "pixel_representation": int(header.signed),
        "photometric_interpretation": header.photometric,
        "planar_configuration": header.planar,
    }


def _offsets(header: Header) -> tuple[bytes, bytes] | None:
    """Return where frames lie, and how long they are, where the file has a table of that."""
    found = [
        header.elements.get(keyword)
        for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
    ]
    if not all(isinstance(one, bytes) and one for one in found):
        return None
    return found[0], found[1]


def _check_frame(frame: bytes, header: Header) -> None:
    """Refuse a frame that a decoder would take more memory for than the header lets expect."""
    if header.syntax == RLELossless:
        # Run lengths make noise longer, by 1 byte in 128, and each of 15 segments is padded.
        if len(frame) > header.frame_bits // 4 + 1024:
            raise BadImageError("RLE pixels that are longer than the image")
        return
    size: Size | None = None
    if header.syntax in JPEG2000TransferSyntaxes:
        size = jpeg_2000_size(frame)
    elif header.syntax in JPEGTransferSyntaxes or header.syntax in JPEGLSTransferSyntaxes:
        size = jpeg_size(frame)
    if size is None:
        raise BadImageError(f"{_encoding(header)} that are cut short or damaged")
    if size != (header.columns, header.rows, header.samples):
        raise BadImageError(
            f"damaged: {_encoding(header)} of {size.columns} × {size.rows} × {size.components}, "
            f"and a header of {header.columns} × {header.rows} × {header.samples}"
        )


def _encoding(header: Header) -> str:
    """Return what pixels are called, by how they are encoded."""
    if header.is_native:
        return "pixels"
    for name, syntaxes in (
        ("JPEG 2000", JPEG2000TransferSyntaxes),
        ("JPEG-LS", JPEGLSTransferSyntaxes),
        ("JPEG", JPEGTransferSyntaxes),
    ):
        if header.syntax in syntaxes:
            return f"{name} pixels"
    return "RLE pixels"
