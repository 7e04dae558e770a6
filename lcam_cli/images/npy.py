"""NumPy's .npy: an array (H, W) or (H, W, C) of numbers, never unpickled.

The header is read by NumPy's own functions, which evaluate a literal and nothing else. What it
declares is checked against the limit and the file's size before memory is taken for it.
"""

from __future__ import annotations

import math
import os
import re
import reprlib
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from lcam_cli.errors import BadImageError
from lcam_cli.images.picture import Picture, PictureFormat, ReadOptions

_KINDS = {np.dtype(np.bool_)}
_KINDS |= {np.dtype(f"{sign}{size}") for sign in "iu" for size in (1, 2, 4, 8)}
_KINDS |= {np.dtype(f"f{size}") for size in (2, 4, 8)}

_SHAPE = re.compile(rb"'shape': \(([0-9, ]*)\)")


def has_other_shape(head: bytes) -> bool:
    """Whether an array is no image by its shape, as features saved beside images are.

    Nothing is evaluated. What the bytes do not tell is left to reading.

    Args:
        head: The first bytes of the file.
    """
    found = _SHAPE.search(head) if head.startswith(npy.MAGIC_PREFIX) else None
    return found is not None and len(found[1].replace(b",", b" ").split()) not in (2, 3)


class Npy(PictureFormat):
    """Arrays as ``numpy.save`` writes them. Of several in one file the first is read."""

    extensions = (".npy",)

    def recognises(self, head: bytes) -> bool:
        """Whether a file is one."""
        return head.startswith(npy.MAGIC_PREFIX)

    def read(self, file: BinaryIO, options: ReadOptions) -> Picture:
        """Read an array of booleans, whole numbers of 8 to 64 bits or floats of 16 to 64.

        Raises:
            BadImageError: It is another array, is too large, cut short or damaged.
        """
        shape, is_fortran, dtype = _read_header(file)
        if dtype.newbyteorder("=") not in _KINDS or len(shape) not in (2, 3) or min(shape) < 0:
            raise BadImageError(
                f"an array {reprlib.repr(shape)} of {reprlib.repr(str(dtype))} is not an "
                "image: an image is (H, W) or (H, W, C) of numbers"
            )
        options.check_size(shape[1], shape[0], math.prod(shape[2:]))
        size = math.prod(shape) * dtype.itemsize
        if size == 0:
            raise BadImageError("an image without pixels")
        if _rest(file) < size:
            raise BadImageError("truncated array")
        return Picture(_read_values(file, shape, is_fortran, dtype))


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return the shape, whether it is in Fortran's order, and the type."""
    try:
        version = npy.read_magic(file)
        if version == (1, 0):
            header = npy.read_array_header_1_0(file)
        elif version in ((2, 0), (3, 0)):  # they differ in the letters of fields' names
            header = npy.read_array_header_2_0(file)
        else:
            raise BadImageError("an array of a newer version of NumPy's format")
        shape, is_fortran, dtype = header
    except BadImageError:
        raise
    except MemoryError:
        raise BadImageError("damaged array") from None
    except Exception as error:  # of evaluating a stranger's literal
        raise BadImageError("damaged array") from error
    return tuple(int(side) for side in shape), bool(is_fortran), dtype


def _rest(file: BinaryIO) -> int:
    """Return how many bytes follow in a file, which stays where it is."""
    at = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(at)
    return end - at


def _read_values(
    file: BinaryIO, shape: tuple[int, ...], is_fortran: bool, dtype: np.dtype[Any]
) -> NDArray[Any]:
    values: NDArray[Any] = np.empty(shape[::-1] if is_fortran else shape, dtype)
    buffer = values.reshape(-1).view(np.uint8).data
    while buffer:
        count = file.readinto(buffer)  # type: ignore[attr-defined]
        if not count:  # it has become shorter
            raise BadImageError("truncated array")
        buffer = buffer[count:]
    if not dtype.isnative:
        values = values.byteswap(inplace=True).view(dtype.newbyteorder("="))
    return values.transpose() if is_fortran else values
