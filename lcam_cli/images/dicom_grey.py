"""From the stored values of a grey frame to the values and the window that show it.

The order is the standard's (DICOM PS3.4, N.2): padding, the modality's rescaling or table, then the
window or table of interest (VOI).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from lcam_cli.errors import BadImageError
from lcam_cli.images.dicom_header import Header, items_of, numbers_of, text_of
from lcam_cli.images.dicom_lut import LookupTable, table_of
from lcam_cli.images.picture import Picture, ReadOptions
from lcam_cli.images.rgb import Levels

_EXACT_BITS = 16
"""Whole numbers of so many bits, rescaled, are told apart by float32."""


def grey_picture(stored: NDArray[Any], header: Header, options: ReadOptions) -> Picture:
    """Return a grey frame.

    Args:
        stored: Its values, (H, W).
        header: Of the file.
        options: Which frame, and with ``window="auto"`` as the file shows it: by its first VOI
            table, else by its first window, else by all values that its type can have.

    Raises:
        BadImageError: What the header says of windows and tables makes no sense.
    """
    is_inverted = header.photometric == "MONOCHROME1"
    padding = _padding(stored, header)
    values, ends = _of_modality(stored, header, options.entry)
    if padding is not None and ends is not None:
        values = _darkened(values, padding, ends, is_inverted=is_inverted)
    if options.window != "auto":
        ends = options.window
    else:
        values, ends = _of_interest(values, ends, header, options.entry)
    return _picture(values, ends, is_inverted=is_inverted)


def _padding(stored: NDArray[Any], header: Header) -> NDArray[np.bool_] | None:
    """Return where a frame has no image (PS3.3, C.7.5.1.1.2); None where it has one all over."""
    ends = [
        number
        for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")
        for number in numbers_of(header.elements, keyword)[:1]
    ]
    if not ends or header.is_float:
        return None
    if header.signed:  # some write a negative number as if there were no sign
        ends = [one - 2**header.bits if one >= 2 ** (header.bits - 1) else one for one in ends]
    low, high = min(ends), max(ends)
    if high < stored.min() or stored.max() < low:
        return None
    found = stored == low if low == high else (stored >= low) & (stored <= high)
    return found if found.any() else None


def _darkened(
    values: NDArray[Any],
    padding: NDArray[np.bool_],
    ends: tuple[float, float],
    *,
    is_inverted: bool,
) -> NDArray[Any]:
    """Return values with padding as dark as the darkest of the others, in both kinds of grey."""
    # As bright as the brightest first, so that it is never the darkest itself.
    rest = np.where(padding, values.min() if is_inverted else values.max(), values)
    darkest = rest.max() if is_inverted else rest.min()
    if padding.all():
        return np.full(values.shape, ends[int(is_inverted)], np.float32)
    return np.where(padding, darkest, values)


def _of_modality(
    stored: NDArray[Any], header: Header, index: int
) -> tuple[NDArray[Any], tuple[float, float] | None]:
    """Return what the stored values mean, and the least and the greatest that the type can mean.

    The latter is None for floats (PS3.3, C.11.1).
    """
    if tables := items_of(header.elements, "ModalityLUTSequence"):
        table = _table(tables[0], header, signed=header.signed)
        return table.of(stored), (0.0, table.white)
    group = header.group(index, "PixelValueTransformationSequence")
    slope, intercept = (
        numbers_of(group, keyword)[:1] for keyword in ("RescaleSlope", "RescaleIntercept")
    )
    scale, offset = (slope[0], intercept[0]) if slope and intercept else (1.0, 0.0)
    if scale == 0:
        raise BadImageError("its header maps all values to one value")
    if header.is_float:
        ends = None
    else:
        bits = header.bits_stored - header.signed
        least, greatest = (-(2.0**bits) if header.signed else 0.0), 2.0**bits - 1
        low, high = sorted((least * scale + offset, greatest * scale + offset))
        ends = (low, high)
    if scale == 1 and offset == 0:
        return stored, ends
    shifted = _shifted(stored, offset) if scale == 1 else None
    if shifted is not None:
        return shifted, ends
    kind = np.float32 if header.bits <= _EXACT_BITS else np.float64
    with np.errstate(over="ignore"):
        values: NDArray[Any] = np.multiply(stored, kind(scale), dtype=kind)
        np.add(values, kind(offset), out=values)
    return values, ends


def _shifted(stored: NDArray[Any], offset: float) -> NDArray[Any] | None:
    """Return values plus a number as whole numbers of 16 bits; None where these do not hold them.

    So is a CT, and whole numbers are windowed sooner than floats are.
    """
    if stored.dtype.kind not in "ui" or not offset.is_integer():
        return None
    low, high = (int(end) + int(offset) for end in (stored.min(), stored.max()))
    for kind in (np.int16, np.uint16):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            # Sums of 16 bits are right but for multiples of 65,536, and so all are in the end.
            values = stored.astype(kind)
            values += np.array(int(offset) % 65_536, np.uint16).astype(kind)
            return values
    return None


def _of_interest(
    values: NDArray[Any], ends: tuple[float, float] | None, header: Header, index: int
) -> tuple[NDArray[Any], tuple[float, float] | None]:
    """Return the values, and those of them that are black and white (PS3.3, C.11.2)."""
    if tables := items_of(header.elements, "VOILUTSequence"):
        table = _table(tables[0], header, signed=ends is None or ends[0] < 0)
        return table.of(values), (0.0, table.white)
    group = header.group(index, "FrameVOILUTSequence")
    center, width = (numbers_of(group, name)[:1] for name in ("WindowCenter", "WindowWidth"))
    if not center or not width:
        return values, ends
    function = text_of(group, "VOILUTFunction").upper() or "LINEAR"
    return _windowed(function, values, center[0], width[0])


def _windowed(
    function: str, values: NDArray[Any], center: float, width: float
) -> tuple[NDArray[Any], tuple[float, float]]:
    """Return values and the window that a center and a width mean (PS3.3, C.11.2.1.2, .3)."""
    if width <= 0 or (function == "LINEAR" and width < 1):
        raise BadImageError("the window in its header has width 0")
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            exponent = (values.astype(np.float64) - center) * (-4 / width)
            return (1 / (1 + np.exp(exponent))).astype(np.float32), (0.0, 1.0)
    if function == "LINEAR_EXACT":
        return values, (center - width / 2, center + width / 2)
    if function != "LINEAR":
        raise BadImageError("the window in its header is of an unknown kind")
    if width == 1:  # a step: nothing lies between black and white
        return (values > center - 0.5).astype(np.float32), (0.0, 1.0)
    return values, (center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2)


def _table(item: Dataset, header: Header, *, signed: bool) -> LookupTable:
    return table_of(item, signed=signed, little_endian=header.little_endian)


def _picture(
    values: NDArray[Any], ends: tuple[float, float] | None, *, is_inverted: bool
) -> Picture:
    """Return an image of which these values are black and white; None: as any other floats'."""
    if values.dtype == np.uint8 and ends is not None:
        if ends == (0.0, 255.0):
            return Picture(values, None, is_inverted)
        if ends == (0.0, 1.0):
            return Picture(values.astype(np.bool_), None, is_inverted)
        values = values.astype(np.uint16)  # those of 8 bits are never windowed
    levels = None if ends is None else Levels(*_extent(values), *ends)
    return Picture(values, levels, is_inverted)


def _extent(values: NDArray[Any]) -> tuple[float, float]:
    """Return the least and the greatest of the finite values; zeros where there are none."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite((low, high)).all():
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    return low, high
