"""A map as a file of its own: PNG of 8 or 16 bits, TIFF or npy of floats; at either size."""

from __future__ import annotations

import io
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lcam_cli.maps.overlay import CropBox, pixels_in, stretched
from lcam_cli.maps.png_encoder import encode_png
from lcam_cli.maps.record import Floats

MapFormat = Literal["png", "png16", "tiff", "npy"]
"""``"png"`` has 8 bits, ``"png16"`` 16; ``"tiff"`` and ``"npy"`` have float32."""

MapSize = Literal["input", "original"]
"""That of the network's input, or of the upright original image."""

EXTENSIONS: dict[MapFormat, str] = {"png": "png", "png16": "png", "tiff": "tiff", "npy": "npy"}

_WHOLE: dict[MapFormat, tuple[float, type[np.unsignedinteger[Any]]]] = {
    "png": (255, np.uint8),
    "png16": (65535, np.uint16),
}


def stored_values(V: Floats, map_format: MapFormat) -> NDArray[Any]:
    """Return V as a format stores it: whole numbers of PNG, rounded, with NaN as 0; else floats."""
    if map_format not in _WHOLE:
        return V
    highest, dtype = _WHOLE[map_format]
    values: NDArray[Any] = np.rint(np.nan_to_num(V) * np.float32(highest)).astype(dtype)
    return values


def at_original_size(V: Floats, crop_box: CropBox, size: tuple[int, int]) -> Floats:
    """Return V at the size of the image, interpolated linearly, as overlays are.

    Args:
        V: (H, W) in [0, 1].
        crop_box: x0, y0, x1, y1 of V in the image, in pixels.
        size: The image's width and height.

    Returns:
        float32 (height, width) in [0, 1]; NaN where the network did not see the image.
    """
    width, height = size
    whole = np.full((height, width), np.nan, np.float32)
    box = pixels_in(crop_box, size)
    if box is not None:
        left, top, right, bottom = box
        whole[top:bottom, left:right] = np.asarray(stretched(V, crop_box, box)).clip(0, 1)
    return whole


def encoded_map(V: Floats, map_format: MapFormat) -> bytes:
    """Return the bytes of a file that holds V, (H, W) in [0, 1] or NaN."""
    values = stored_values(V, map_format)
    if map_format in _WHOLE:
        return encode_png(values)
    out = io.BytesIO()
    if map_format == "npy":
        np.save(out, values, allow_pickle=False)
    else:
        Image.fromarray(values).save(out, "TIFF", compression="tiff_adobe_deflate")
    return out.getvalue()
