"""Palettes: pixels that are numbers of colours (DICOM PS3.3, C.7.6.3.1.5 and C.7.9)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lcam_cli.errors import BadImageError
from lcam_cli.images.dicom_header import Header, numbers_of
from lcam_cli.images.dicom_lut import LookupTable, descriptor, entries_of

_DISCRETE, _LINEAR, _INDIRECT = 0, 1, 2


def palette_colours(values: NDArray[Any], header: Header) -> NDArray[Any]:
    """Return the colours of a frame.

    Args:
        values: The stored ones, (H, W).
        header: Of the file, with a palette, whose tables may be in segments.

    Returns:
        uint8 or uint16 (H, W, 3).

    Raises:
        BadImageError: There is no palette, or a damaged one.
    """
    bands = [_table(header, colour).of(values) for colour in ("Red", "Green", "Blue")]
    colours = np.empty((*values.shape, 3), bands[0].dtype)
    for channel, band in enumerate(bands):
        colours[..., channel] = band
    return colours


def _table(header: Header, colour: str) -> LookupTable:
    elements = header.elements
    numbers = numbers_of(elements, f"{colour}PaletteColorLookupTableDescriptor")
    if not numbers:
        raise BadImageError("its colours refer to a palette that is missing")
    first, bits, count = descriptor(numbers, signed=header.signed)
    try:
        plain = elements.get(f"{colour}PaletteColorLookupTableData")
        segmented = elements.get(f"Segmented{colour}PaletteColorLookupTableData")
    except Exception:
        plain = segmented = None
    if isinstance(plain, bytes) and plain:
        entries = entries_of(plain, count, little_endian=header.little_endian)
    elif isinstance(segmented, bytes) and segmented and bits in (8, 16):
        entries = _entries_of_segments(segmented, bits, count, little_endian=header.little_endian)
    else:
        raise BadImageError("its palette is damaged")
    return LookupTable(first, 8 * entries.dtype.itemsize, entries)


def _entries_of_segments(
    data: bytes, bits: int, count: int, *, little_endian: bool
) -> NDArray[Any]:
    """Return the entries that segments describe (PS3.3, C.7.9.2)."""
    order = "<" if little_endian else ">"
    kind = np.dtype(np.uint8 if bits == 8 else f"{order}u2")
    units = np.frombuffer(data, kind, len(data) // kind.itemsize).tolist()
    segments = _Segments(units, kind.itemsize, order, count)
    try:
        segments.expand(0)
    except (IndexError, struct.error):
        raise BadImageError("its palette is damaged") from None
    if len(segments.entries) < count:
        raise BadImageError("its palette is cut short")
    return np.array(segments.entries[:count], np.uint8 if bits == 8 else np.uint16)


@dataclass
class _Segments:
    """A table in segments.

    Attributes:
        units: The numbers that the segments are written in.
        bytes_a_unit: Of them.
        order: Of bytes, for :mod:`struct`.
        count: How many entries are wanted: what describes more is not looked at.
        entries: Those so far.
    """

    units: list[int]
    bytes_a_unit: int
    order: str
    count: int
    entries: list[int] = field(default_factory=list)

    def expand(self, at: int, repeated: int | None = None) -> None:
        """Add the entries of the segments from a unit on.

        Args:
            at: The unit.
            repeated: How many segments, where another repeats these; None for all that there are.

        Raises:
            BadImageError, IndexError, struct.error: They are damaged.
        """
        done = 0
        while at + 1 < len(self.units) and len(self.entries) < self.count and done != repeated:
            kind, length = self.units[at : at + 2]
            at += 2
            if kind == _DISCRETE:
                self.entries += self.units[at : at + length]
                at += length
            elif kind == _LINEAR:
                begin, end = self.entries[-1], self.units[at]
                steps = np.arange(1, length + 1) / max(length, 1)
                self.entries += np.rint(begin + (end - begin) * steps).astype(int).tolist()
                at += 1
            elif kind == _INDIRECT and repeated is None:  # repeating one that repeats has no end
                self.expand(self._offset(at), length)
                at += 4 // self.bytes_a_unit
            else:
                raise BadImageError("its palette is damaged")
            done += 1

    def _offset(self, at: int) -> int:
        """Return the unit that an indirect segment's byte offset leads to: low half first."""
        if self.bytes_a_unit == 2:
            low, high = self.units[at], self.units[at + 1]
        else:
            low, high = struct.unpack(f"{self.order}2H", bytes(self.units[at : at + 4]))
        return (high << 16 | low) // self.bytes_a_unit
