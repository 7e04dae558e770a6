"""Lookup tables in DICOM files: of the modality, of interest (VOI), and of palettes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from lcam_cli.errors import BadImageError
from lcam_cli.images.dicom_header import numbers_of

_MOST_ENTRIES = 1 << 16


@dataclass(frozen=True)
class LookupTable:
    """A value for each of a range of whole numbers (PS3.3, C.11.1.1).

    Attributes:
        first: The number that the first entry is for; those below have it too, and those above the
            last entry's have the last.
        bits: Of an entry.
        entries: uint8 or uint16 (n,).
    """

    first: int
    bits: int
    entries: NDArray[Any]

    @property
    def white(self) -> float:
        """The largest value that an entry can have."""
        return 2.0**self.bits - 1

    def of(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the entries for values, which are rounded to whole numbers."""
        if values.dtype.itemsize <= 2:  # fewer values are possible than most images have pixels
            possible = np.arange(2 ** (8 * values.dtype.itemsize)).astype(values.dtype)
            return np.take(self._entries_for(possible), values.view(f"u{values.dtype.itemsize}"))
        return self._entries_for(np.rint(values) if values.dtype.kind == "f" else values)

    def _entries_for(self, whole: NDArray[Any]) -> NDArray[Any]:
        last = self.first + len(self.entries) - 1
        # Clipped before the difference: that of unsigned numbers has no sign.
        return self.entries[np.clip(whole.astype(np.int64), self.first, last) - self.first]


def table_of(item: Dataset, *, signed: bool, little_endian: bool) -> LookupTable:
    """Return the table that an item of a Modality or a VOI LUT Sequence holds.

    Args:
        item: With a LUT descriptor and LUT data.
        signed: Whether the table is for numbers that may be negative.
        little_endian: The order of bytes, where the entries are bytes.

    Raises:
        BadImageError: It is damaged.
    """
    first, bits, count = descriptor(numbers_of(item, "LUTDescriptor"), signed=signed)
    if not 8 <= bits <= 16:
        raise BadImageError("a damaged lookup table in its header")
    try:
        data = item.get("LUTData")
    except Exception:
        data = None
    if isinstance(data, bytes):
        entries = entries_of(data, count, little_endian=little_endian)
    else:
        found = numbers_of(item, "LUTData")
        if len(found) < count or min(found) < 0 or max(found) >= _MOST_ENTRIES:
            raise BadImageError("a damaged lookup table in its header")
        entries = np.array(found[:count], np.uint16)
    return LookupTable(first, bits, entries)


def descriptor(numbers: list[float], *, signed: bool) -> tuple[int, int, int]:
    """Return the first number that a table is for, the bits of an entry, and how many there are.

    Args:
        numbers: Of the LUT descriptor: how many (0: 65,536), the first, the bits.
        signed: Whether the first may be negative, and is written as 65,536 more by some.

    Raises:
        BadImageError: They are no three whole numbers.
    """
    if len(numbers) != 3 or not all(one.is_integer() for one in numbers):
        raise BadImageError("a damaged lookup table in its header")
    count, first, bits = map(int, numbers)
    # 65,536 entries are written as 0, and where the type has a sign others come out negative.
    count = count % _MOST_ENTRIES or _MOST_ENTRIES
    if signed and first >= _MOST_ENTRIES // 2:
        first -= _MOST_ENTRIES
    return first, bits, count


def entries_of(data: bytes, count: int, *, little_endian: bool) -> NDArray[Any]:
    """Return the entries that bytes hold: of 16 bits, or of 8 where there are not enough bytes.

    Raises:
        BadImageError: There are fewer than ``count``.
    """
    if len(data) >= 2 * count:
        found = np.frombuffer(data, "<u2" if little_endian else ">u2", count)
        return found.astype(np.uint16)
    if len(data) < count:
        raise BadImageError("a lookup table in its header that is cut short")
    return np.frombuffer(data, np.uint8, count)
