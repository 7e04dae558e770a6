"""DICOM files that are deflated from behind their meta information on (PS3.5, A.5).

A few kilobytes may inflate to terabytes: no more is inflated than what is asked for, and of that
no more is kept than a chunk and what is wanted.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from typing import BinaryIO

LARGEST_HEADER = 1 << 26
"""Bytes: what lies before the pixels may inflate to this much."""

_CHUNK = 1 << 16


def inflated_part(file: BinaryIO, begin: int, offset: int, length: int) -> io.BytesIO:
    """Return some of what a file inflates to; less where that ends earlier or is damaged.

    Args:
        file: The file.
        begin: Where in it the deflated bytes begin.
        offset: From which inflated byte on.
        length: How many bytes.
    """
    part = io.BytesIO()
    passed = 0
    for chunk in _chunks(file, begin):
        part.write(chunk[max(0, offset - passed) : offset + length - passed])
        passed += len(chunk)
        if passed >= offset + length:
            break
    part.seek(0)
    return part


def _chunks(file: BinaryIO, begin: int) -> Iterator[bytes]:
    """Yield what the file inflates to, at most 64 KiB at a time."""
    file.seek(begin)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    while not inflater.eof:
        deflated = inflater.unconsumed_tail or file.read(_CHUNK)
        if not deflated:
            return
        try:
            yield inflater.decompress(deflated, _CHUNK)
        except zlib.error:
            return
