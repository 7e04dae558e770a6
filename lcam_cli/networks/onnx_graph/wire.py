"""Protocol Buffers on the wire: a message is a list of numbered fields, each with its bytes.

That is all of the format that is needed to look into an ONNX file before anything else reads it,
and to write one that holds other parts of it (https://protobuf.dev/programming-guides/encoding/).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
Bytes = bytes | memoryview
_LONGEST_VARINT = 10
_SIGN = 1 << 63


class DamagedError(ValueError):
    """What is read is no message."""


@dataclass(frozen=True)
class Field:
    """A field of a message.

    Attributes:
        number: Which field it is.
        kind: How its value is written: VARINT, FIXED64, BYTES or FIXED32.
        value: A number of a VARINT, unsigned; else the bytes themselves, which are not copied.
        whole: The bytes of the field, its number included.
    """

    number: int
    kind: int
    value: int | memoryview
    whole: memoryview

    @property
    def as_bytes(self) -> memoryview:
        """The bytes of a text, of a message, or of numbers that are packed.

        Raises:
            DamagedError: It is a number.
        """
        if self.kind != BYTES or isinstance(self.value, int):
            raise DamagedError(f"field {self.number} is a number")
        return self.value

    @property
    def as_text(self) -> str:
        """A text.

        Raises:
            DamagedError: It is none.
        """
        try:
            return str(self.as_bytes, "utf-8")
        except UnicodeDecodeError:
            raise DamagedError(f"field {self.number} is not text") from None

    @property
    def as_int(self) -> int:
        """A whole number of 64 bits, signed.

        Raises:
            DamagedError: It is none.
        """
        if not isinstance(self.value, int):
            raise DamagedError(f"field {self.number} is not a whole number")
        return signed(self.value)

    @property
    def as_float(self) -> float:
        """A number of 32 bits.

        Raises:
            DamagedError: It is none.
        """
        if self.kind != FIXED32 or isinstance(self.value, int):
            raise DamagedError(f"field {self.number} is not a 32-bit number")
        (number,) = struct.unpack("<f", self.value)
        return float(number)

    @property
    def as_ints(self) -> list[int]:
        """Whole numbers of a repeated field: one, or several that are packed."""
        if self.kind == BYTES:
            return [signed(value) for value in _varints(self.as_bytes)]
        return [self.as_int]


def fields(message: memoryview) -> Iterator[Field]:
    """The fields of a message, in order.

    Raises:
        DamagedError: It is no message, or its end is missing.
    """
    at, end = 0, len(message)
    while at < end:
        start = at
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        value: int | memoryview
        if number == 0:
            raise DamagedError("a field has no number")
        if kind == VARINT:
            value, at = _varint(message, at)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
            value, at = message[at : at + length], at + length
        elif kind == BYTES:
            length, at = _varint(message, at)
            value, at = message[at : at + length], at + length
        else:
            raise DamagedError(f"field {number} is of kind {kind}")
        if at > end:
            raise DamagedError(f"field {number} ends after the end")
        yield Field(number, kind, value, message[start:at])


def signed(value: int) -> int:
    """The signed number of 64 bits that is written as this unsigned one."""
    return value - (value & _SIGN) * 2


def field(number: int, value: int | str | bytes) -> bytes:
    """A field: a whole number, a text, or bytes, which may be a message."""
    if isinstance(value, int):
        return _written(number << 3 | VARINT) + _written(value)
    content = value.encode() if isinstance(value, str) else value
    return b"".join(nested(number, [content]))


def nested(number: int, parts: Sequence[Bytes]) -> list[Bytes]:
    """The parts of a field whose value lies in parts; so that much of it need not be copied."""
    length = sum(map(len, parts))
    return [_written(number << 3 | BYTES) + _written(length), *parts]


def _varints(packed: memoryview) -> Iterator[int]:
    at = 0
    while at < len(packed):
        value, at = _varint(packed, at)
        yield value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number, and where what follows it begins."""
    value = 0
    for i in range(_LONGEST_VARINT):
        if at + i >= len(message):
            raise DamagedError("it ends within a number")
        byte = message[at + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value & (1 << 64) - 1, at + i + 1
    raise DamagedError("a number has no end")


def _written(value: int) -> bytes:
    value &= (1 << 64) - 1
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
