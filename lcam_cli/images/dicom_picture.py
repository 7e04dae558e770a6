"""From a DICOM file to the image that one of its frames shows."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lcam_cli.images.dicom_frame import stored_values
from lcam_cli.images.dicom_grey import grey_picture
from lcam_cli.images.dicom_header import read_header
from lcam_cli.images.dicom_palette import palette_colours
from lcam_cli.images.picture import Picture, ReadOptions
from lcam_cli.images.rgb import Levels


def read_frame(file: BinaryIO, options: ReadOptions) -> Picture:
    """Return the frame ``options.entry`` of a file, which alone is decoded.

    Raises:
        BadImageError: It cannot be read.
    """
    header = read_header(file)
    header.check(options)
    header.count_frames()  # else the first of a file cut short would pass for all of it
    values = stored_values(file, header, options.entry)
    if header.photometric == "PALETTE COLOR":
        return _colours(palette_colours(values, header))
    if values.ndim == 3:
        return _colours(values, bits=header.bits_stored)
    return grey_picture(values, header, options)


def _colours(values: NDArray[Any], *, bits: int | None = None) -> Picture:
    """Return an image of RGB (H, W, 3), of all bits of its type or as many as are said."""
    if values.dtype == np.uint8 and bits in (None, 8):
        return Picture(Image.fromarray(np.ascontiguousarray(values)))
    white = 2.0 ** (8 * values.dtype.itemsize if bits is None else bits) - 1
    return Picture(values, Levels(float(values.min()), float(values.max()), 0.0, white))
