"""What a compressed frame says of its own size, looked at before a decoder takes memory for it."""

from __future__ import annotations

import struct
from typing import NamedTuple

_J2K_BEGIN = b"\xff\x4f\xff\x51"
# A JP2 file around the code stream, which some writers leave there, begins with a few short boxes.
_J2K_WITHIN = 4096
# Start of frame, of all processes of JPEG and of JPEG-LS (ITU-T T.81, table B.1; T.87, C.1.1).
_FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})


class Size(NamedTuple):
    """Columns, rows and components of a frame."""

    columns: int
    rows: int
    components: int


def jpeg_size(frame: bytes) -> Size | None:
    """Return the size that a JPEG or JPEG-LS code stream declares; None where it does not."""
    at = frame.find(b"\xff\xd8")
    if at < 0:
        return None
    at += 2
    while at + 4 <= len(frame):
        if frame[at] != 0xFF:
            return None
        marker = frame[at + 1]
        if marker == 0xFF:  # fill bytes
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        elif marker in _FRAMES and at + 10 <= len(frame):
            rows, columns, components = struct.unpack(">HHB", frame[at + 5 : at + 10])
            return Size(columns, rows, components)
        else:
            at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None


def jpeg_2000_size(frame: bytes) -> Size | None:
    """Return the size that a JPEG 2000 code stream declares; None where it does not.

    The SIZ marker segment (ITU-T T.800, A.5.1) comes first.
    """
    at = frame.find(_J2K_BEGIN, 0, _J2K_WITHIN)
    segment = frame[at + 8 : at + 42]  # behind the markers, the length and the capabilities
    if at < 0 or len(segment) < 34:
        return None
    right, bottom, left, top, *_, components = struct.unpack(">8IH", segment)
    return Size(right - left, bottom - top, components)
