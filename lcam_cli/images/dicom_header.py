"""What a DICOM file says about its pixels, and where they lie.

Only the elements that pixels need are read (:data:`_ELEMENTS`): nothing about a patient is ever in
memory, but for what nested sequences of unknown length have to be searched for their end. No reason
quotes a value of a file: texts may be anybody's name, wherever they stand.
"""

from __future__ import annotations

import logging
import math
import os
import struct
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from lcam_cli.errors import BadImageError
from lcam_cli.images.dicom_deflated import LARGEST_HEADER, inflated_part
from lcam_cli.images.dicom_kinds import without_pixels
from lcam_cli.images.picture import ReadOptions, identity_of

# Process-wide, at import, as Pillow's in pillow.py: what pydicom warns about is harmless or comes
# back as a reason of ours, and its texts quote values of the file.
warnings.filterwarnings("ignore", module=r"pydicom\.")
logging.getLogger("pydicom").addHandler(logging.NullHandler())

_PREAMBLE = 132
_PIXELS = {
    0x7FE00008: "FloatPixelData",
    0x7FE00009: "DoubleFloatPixelData",
    0x7FE00010: "PixelData",
}
_ELEMENTS: Sequence[int] = (
    0x00080016,  # SOP class
    *(0x00280002, 0x00280004, 0x00280006, 0x00280008, 0x00280010, 0x00280011),
    *(0x00280100, 0x00280101, 0x00280103, 0x00280120, 0x00280121),  # bits, sign, padding
    *(0x00281050, 0x00281051, 0x00281052, 0x00281053, 0x00281056),  # window, rescaling
    *(0x00281101, 0x00281102, 0x00281103, 0x00281201, 0x00281202, 0x00281203),  # palettes
    *(0x00281221, 0x00281222, 0x00281223),
    *(0x00283000, 0x00283010),  # lookup tables of the modality and of interest
    *(0x52009229, 0x52009230),  # functional groups, shared and of each frame
    *(0x7FE00001, 0x7FE00002),  # where frames lie
)
_UNDEFINED = 0xFFFFFFFF
_ITEM = 8  # bytes of the tag and the length before a piece of compressed pixels
_BITS = (1, 8, 16, 32)


@dataclass(frozen=True)
class PixelElement:
    """The element that holds the pixels.

    Attributes:
        keyword: ``"PixelData"``, ``"FloatPixelData"`` or ``"DoubleFloatPixelData"``.
        vr: Its value representation.
        begin: Where its value begins, in bytes, in the file or in what it inflates to.
        length: Of its value, in bytes; None where only its end is marked.
    """

    keyword: str
    vr: str
    begin: int
    length: int | None


@dataclass
class Header:
    """What a file says about its pixels.

    Attributes:
        elements: Those of :data:`_ELEMENTS` that it has.
        syntax: Its transfer syntax: how its pixels are encoded.
        pixels: Where they lie.
        size: Bytes of the file.
        deflated_from: Where what is deflated begins; None where nothing is.
    """

    elements: Dataset
    syntax: UID
    pixels: PixelElement
    size: int
    deflated_from: int | None = None
    rows: int = field(init=False)
    columns: int = field(init=False)
    samples: int = field(init=False)
    frames: int = field(init=False)
    bits: int = field(init=False)
    bits_stored: int = field(init=False)
    signed: bool = field(init=False)
    planar: int = field(init=False)
    photometric: str = field(init=False)

    def __post_init__(self) -> None:
        self.rows = self._whole("Rows", "height")
        self.columns = self._whole("Columns", "width")
        self.samples = self._whole("SamplesPerPixel", "number of channels", 1)
        self.frames = self._whole("NumberOfFrames", "number of frames", 1) or 1
        self.bits = self._whole("BitsAllocated", "number of bits")
        self.bits_stored = self._whole("BitsStored", "number of bits", self.bits)
        self.signed = self._whole("PixelRepresentation", "sign", 0) == 1
        self.planar = self._whole("PlanarConfiguration", "order of channels", 0)
        self.photometric = text_of(self.elements, "PhotometricInterpretation").upper()
        if self.is_float:
            self.bits = self.bits_stored = 32 if self.pixels.keyword == "FloatPixelData" else 64
            self.signed = True
        elif self.bits not in _BITS or not 1 <= self.bits_stored <= self.bits:
            raise BadImageError(
                "its number of bits per pixel is not supported (1, 8, 16 and 32 are)"
            )
        if self.samples not in (1, 3):
            raise BadImageError("its number of channels is not 1 or 3")
        if self.planar not in (0, 1) or self.frames < 0:
            raise BadImageError("damaged DICOM header")

    @property
    def is_float(self) -> bool:
        """Whether its pixels are floats."""
        return self.pixels.keyword != "PixelData"

    @property
    def is_native(self) -> bool:
        """Whether its pixels lie there as they are, not compressed."""
        return not self.syntax.is_encapsulated

    @property
    def little_endian(self) -> bool:
        """The order of bytes of its elements."""
        return bool(self.elements.original_encoding[1])

    @property
    def frame_bits(self) -> int:
        """Bits of a frame that is not compressed."""
        bits = self.rows * self.columns * self.samples * self.bits
        return bits * 2 // 3 if self.is_native and self.photometric == "YBR_FULL_422" else bits

    def check(self, options: ReadOptions) -> None:
        """Refuse what is too large, or not there, before memory is taken for it.

        Raises:
            BadImageError: Too many pixels, none, or a frame that the file has not.
        """
        options.check_size(self.columns, self.rows)
        if options.entry >= self.frames:
            raise BadImageError("there is no such frame in the file")
        if self.is_native and (options.entry + 1) * self.frame_bits > 8 * self._length():
            raise BadImageError("cut short: its pixels end too early")

    def count_frames(self) -> int:
        """Return how many frames there are.

        Raises:
            BadImageError: It cannot hold as many as it declares.
        """
        if self.frames == 1:
            return 1
        # Compressed, a frame is one piece at least; where the pieces end is found when one is read.
        needed = self.frame_bits if self.is_native else 8 * _ITEM
        room = 8 * self._length() // max(needed, 1)
        if room < self.frames:
            raise BadImageError(
                f"cut short, or damaged: it declares {self.frames:,} frames, "
                f"but has room for {room:,}"
            )
        return self.frames

    def group(self, index: int, name: str) -> Dataset:
        """Return the item of a functional group that holds for a frame, else the elements.

        Args:
            index: Of the frame, from 0.
            name: Of the group's sequence, e.g. ``"FrameVOILUTSequence"``.
        """
        own = items_of(self.elements, "PerFrameFunctionalGroupsSequence")
        shared = items_of(self.elements, "SharedFunctionalGroupsSequence")
        for one in (*own[index : index + 1], *shared[:1]):
            if items := items_of(one, name):
                return items[0]
        return self.elements

    def _length(self) -> int:
        """Return the bytes that there may be of the pixels, at most."""
        if self.deflated_from is not None:  # where it ends is not known before it is inflated
            return self.pixels.length or 0
        left = max(self.size - self.pixels.begin, 0)
        return left if self.pixels.length is None else min(left, self.pixels.length)

    def _whole(self, keyword: str, what: str, default: int | None = None) -> int:
        numbers = numbers_of(self.elements, keyword)
        if not numbers and (keyword not in self.elements or _is_empty(self.elements, keyword)):
            if default is not None:
                return default
            raise BadImageError(f"its header does not say its {what}")
        if not numbers or not numbers[0].is_integer() or numbers[0] < 0:
            raise BadImageError(f"damaged DICOM header: not a whole number as its {what}")
        return int(numbers[0])


def text_of(elements: Dataset, keyword: str) -> str:
    """Return an element as text; empty where there is none, or it cannot be read."""
    try:
        value = elements.get(keyword)
    except Exception:
        return ""
    return value.strip() if isinstance(value, str) else ""


def numbers_of(elements: Dataset, keyword: str) -> list[float]:
    """Return an element's numbers; none where it has others than finite numbers."""
    try:
        if keyword not in elements:  # sooner than being told by an exception
            return []
        value: Any = elements.get(keyword)
        several = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        numbers = [float(one) for one in (value if several else [value])]
    except Exception:  # pydicom converts when asked, and raises what it likes
        return []
    return numbers if all(map(math.isfinite, numbers)) else []


def items_of(elements: Dataset, keyword: str) -> Sequence[Dataset]:
    """Return a sequence's items; none where there is no such sequence, or it cannot be read."""
    try:
        value = elements.get(keyword) if keyword in elements else None
        return value if value and all(isinstance(one, Dataset) for one in value[:1]) else ()
    except Exception:
        return ()


def _is_empty(elements: Dataset, keyword: str) -> bool:
    try:
        return elements.get(keyword) in (None, "")
    except Exception:
        return False


_last = threading.local()


def read_header(file: BinaryIO) -> Header:
    """Read a file's header.

    The last one of each thread is kept: a film of a thousand frames describes each of them, and all
    are asked for one by one.

    Raises:
        BadImageError: It is no DICOM file, has no pixels, or is damaged.
    """
    key = identity_of(file)
    if key is not None and getattr(_last, "key", None) == key:
        header: Header = _last.header
        return header
    try:
        header = _read_header(file)
    except (BadImageError, MemoryError):
        raise
    except Exception as error:
        raise BadImageError("damaged DICOM header") from error
    if key is not None:
        _last.key, _last.header = key, header
    return header


def _read_header(file: BinaryIO) -> Header:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(_PREAMBLE)[-4:] != b"DICM":
        file.seek(0)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    syntax = _syntax(text_of(meta, "TransferSyntaxUID"), file)
    if syntax != DeflatedExplicitVRLittleEndian:
        return Header(*_read_elements(file, syntax, meta), size)
    begin = file.tell()
    length = 1 << 16
    while True:
        content = inflated_part(file, begin, 0, length)
        is_complete = content.getbuffer().nbytes < length
        try:
            return Header(*_read_elements(content, syntax, meta), size, begin)
        except MemoryError:
            raise
        except Exception:  # whatever comes of a header that goes on
            if is_complete:
                raise
        if length >= LARGEST_HEADER:
            raise BadImageError("deflated, with a header that has no end")
        length *= 4


def _syntax(uid: str, file: BinaryIO) -> UID:
    """Return the transfer syntax; where a file does not say it, as its first element looks."""
    if not uid:
        at = file.tell()
        tag, vr = struct.unpack("<H2x2s", file.read(6).ljust(6, b"\0"))
        file.seek(at)
        if not vr.isalpha() or not vr.isupper():
            return ImplicitVRLittleEndian
        return ExplicitVRBigEndian if tag >= 0x0400 else ExplicitVRLittleEndian
    syntax = UID(uid)
    try:
        get_decoder(syntax)
    except NotImplementedError:
        known = f" ({syntax.name})" if syntax.name != uid else ""
        shown = uid if syntax.is_valid else "that is not a UID"
        raise BadImageError(f"its transfer syntax {shown}{known} is not supported") from None
    return syntax


def _read_elements(file: BinaryIO, syntax: UID, meta: Dataset) -> tuple[Dataset, UID, PixelElement]:
    elements = read_dataset(
        file,
        syntax.is_implicit_VR,
        syntax.is_little_endian,
        stop_when=lambda tag, vr, length: tag >> 16 == 0x7FE0 and tag in _PIXELS,
        specific_tags=list(_ELEMENTS),
    )
    pixels = _pixel_element(file, elements)
    if pixels is None:
        if "Rows" in elements:
            raise BadImageError("cut short: it ends before its pixels")
        kind = text_of(elements, "SOPClassUID") or text_of(meta, "MediaStorageSOPClassUID")
        if not kind and not len(elements):
            raise BadImageError("not DICOM, or damaged at its start")
        raise BadImageError(without_pixels(kind))
    return elements, syntax, pixels


def _pixel_element(file: BinaryIO, elements: Dataset) -> PixelElement | None:
    """Return the element at which reading has stopped; None at the end of the file."""
    implicit, little = elements.original_encoding
    order = "<" if little else ">"
    start = file.read(8)
    if len(start) < 8:
        return None
    group, number, length = struct.unpack(order + "HHL", start)
    vr = "OW"
    if not implicit:
        vr = start[4:6].decode("ascii", "replace")
        rest = file.read(4)
        if len(rest) < 4:
            return None
        (length,) = struct.unpack(order + "L", rest)
    keyword = _PIXELS.get(group << 16 | number)
    if keyword is None:
        return None
    return PixelElement(keyword, vr, file.tell(), None if length == _UNDEFINED else length)


def pixel_file(file: BinaryIO, header: Header, begin: int, length: int) -> BinaryIO:
    """Return the file at a place in its pixels, or those of its inflated bytes.

    Args:
        file: The file.
        header: Its header.
        begin: The first byte of the value of its pixels that is wanted.
        length: How many are.
    """
    if header.deflated_from is not None:
        offset = header.pixels.begin + begin
        return inflated_part(file, header.deflated_from, offset, length)
    file.seek(header.pixels.begin + begin)
    return file
