"""PGM and PPM, whose files say which value is white: Pillow stretches it to a white of its own."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFile

from lcam_cli.images.picture import Picture
from lcam_cli.images.pixels import BAND
from lcam_cli.images.rgb import WHITE_OF_16_BITS, Levels

_DECODERS = ("ppm", "ppm_plain")


def stretched_white(picture: ImageFile.ImageFile) -> int | None:
    """Return the file's white, where Pillow will make it 255, or 65535 of more than 8 bits.

    Args:
        picture: Open, and not yet loaded.

    Returns:
        None for other formats, and where the values stay as they are.
    """
    white = int(WHITE_OF_16_BITS) if picture.mode == "I" else 255
    for decoder, _, _, arguments in picture.tile:
        if decoder in _DECODERS and isinstance(arguments, tuple):
            own = arguments[-1]
            return own if isinstance(own, int) and own != white else None
    return None


def in_own_values(picture: Picture, white: int) -> Picture:
    """Return an image with the values of its file.

    Args:
        picture: As Pillow has it.
        white: The file's.
    """
    pixels = picture.pixels
    if isinstance(pixels, Image.Image):
        return Picture(pixels, Levels(0, white, 0, white))
    values = np.empty(pixels.shape, np.uint16)
    for top in range(0, len(pixels), BAND):
        own = pixels[top : top + BAND] * (white / WHITE_OF_16_BITS)
        values[top : top + BAND] = np.rint(own)
    return Picture(values, Levels(float(values.min()), float(values.max()), 0, white))
