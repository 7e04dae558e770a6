"""Which picture formats are read. A list of our own: Pillow's also has some that run programs."""

from __future__ import annotations

import functools

from PIL import Image

# EPS starts Ghostscript and WMF, HDF5, GRIB and the like need outside handlers, so what is not
# named here is never tried. HEIF is there only if a plugin has registered it with Pillow.
_FORMATS = (
    *("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF"),
    *("TGA", "PCX", "PSD", "QOI", "SGI"),
)


@functools.cache
def readable_formats() -> tuple[str, ...]:
    """Return Pillow's names of the formats this installation can read."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@functools.cache
def picture_extensions() -> frozenset[str]:
    """Return the extensions of those formats, lower case with the dot, e.g. ``".jpg"``."""
    # Multi-picture JPEGs have a name of their own in Pillow but are opened as JPEG.
    formats = {*readable_formats(), "MPO"}
    return frozenset(ext.lower() for ext, name in Image.EXTENSION.items() if name in formats)
