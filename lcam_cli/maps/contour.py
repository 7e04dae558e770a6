"""The outline of the region that a map keeps, over the image it explains."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lcam_cli.maps.overlay import CropBox, bands_of, pixels_in, stretched

# A light line inside the region beside a dark one outside: one of them shows on every image.
_INSIDE = (255, 255, 255)
_OUTSIDE = (0, 0, 0)
_WIDTH = 1 / 250  # of each line, of the image's shorter side

_PIXELS_AT_ONCE = 1 << 20


def draw_contour(picture: Image.Image, region: NDArray[np.bool_], crop_box: CropBox) -> None:
    """Outline a region of a map on its image, in place.

    The region's edges are those of its pixels in the map, where straight; corners are rounded by
    as much as half a pixel of the map, so that slanted edges are lines and not stairs.

    Args:
        picture: RGB, upright.
        region: Which pixels of the map belong to it, bool ``(H, W)``.
        crop_box: Where the map lies in the image, in pixels.
    """
    box = pixels_in(crop_box, picture.size)
    if box is None:
        return
    width = max(round(min(picture.size) * _WIDTH), 1)
    soft = stretched(region.astype(np.uint8) * np.uint8(255), crop_box, box)
    left, top, right, bottom = box
    whole = Image.new("L", (right - left + 2, bottom - top + 2))  # nothing is kept beyond the edges
    whole.paste(soft, (1, 1))
    for _, first, _, stop in bands_of((0, 1, whole.width, whole.height - 1), _PIXELS_AT_ONCE):
        # As many rows more on either side as lines are wide, of which edges may lie in the band.
        above, below = max(first - width, 0), min(stop + width, whole.height)
        inside = np.asarray(whole.crop((0, above, whole.width, below))) >= 128
        lines = (
            (inside & _grown(~inside, width), _INSIDE),
            (~inside & _grown(inside, width), _OUTSIDE),
        )
        for line, colour in lines:
            rows = line[first - above : stop - above, 1:-1]
            picture.paste(colour, (left, top + first - 1), Image.fromarray(rows))


def _grown(area: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    """An area and what lies at most ``by`` pixels beside it, counted along rows and columns."""
    grown = area
    for _ in range(by):
        wider = grown.copy()
        wider[1:] |= grown[:-1]
        wider[:-1] |= grown[1:]
        wider[:, 1:] |= grown[:, :-1]
        wider[:, :-1] |= grown[:, 1:]
        grown = wider
    return grown
