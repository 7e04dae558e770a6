"""The connected parts of the region that a map keeps, as boxes in the upright original image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lcam_cli.maps.components import parts_of
from lcam_cli.maps.record import Map
from lcam_cli.maps.region import kept_region

LEAST_SHARE = 0.01
"""Of the kept pixels: smaller parts are specks, and left out."""

_DIGITS = 2  # hundredths of a pixel


class Region(NamedTuple):
    """A connected part of what a map keeps.

    Attributes:
        x0: Its left edge, in pixels of the upright original.
        y0: Its upper edge.
        x1: Its right edge.
        y1: Its lower edge.
        area: What it covers of the original, in pixels; of the box, no more than it fills.
        score: The score of the class on the whole image, times the highest V in the part, so
            that the part with the map's peak has the class's own.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    area: float
    score: float


def regions_of(row: Map, nu: float) -> list[Region]:
    """Return the parts of a map's highest ν% that lie on the image, the largest first.

    Pixels that touch at a corner are of one part. Edges are those of the map's pixels. A part of
    less than 1% of the kept pixels is left out, unless no other is larger.

    Args:
        row: The map, with its image's size.
        nu: ν in (0, 100].
    """
    H, W = row.saliency.shape
    width, height = row.size or (0, 0)
    x0, y0, x1, y1 = row.crop_box
    across, down = (x1 - x0) / W, (y1 - y0) / H  # pixels of the original
    kept = kept_region(row.saliency, nu)
    # With black around the image, what lies there is no part of it.
    columns, rows = x0 + (np.arange(W) + 0.5) * across, y0 + (np.arange(H) + 0.5) * down
    kept &= ((rows > 0) & (rows < height))[:, None] & (columns > 0) & (columns < width)
    boxes, of_pixel = parts_of(kept)
    if not len(boxes):
        return []
    pixels = np.bincount(of_pixel, minlength=len(boxes))
    peaks = np.zeros(len(boxes), np.float32)
    np.maximum.at(peaks, of_pixel, row.saliency[kept])
    found: list[Region] = []
    for part in np.argsort(-pixels, kind="stable"):
        if found and pixels[part] < LEAST_SHARE * len(of_pixel):
            break
        left, top, right, bottom = (float(edge) for edge in boxes[part])
        found.append(
            Region(
                round(max(x0 + left * across, 0.0), _DIGITS),
                round(max(y0 + top * down, 0.0), _DIGITS),
                round(min(x0 + right * across, width), _DIGITS),
                round(min(y0 + bottom * down, height), _DIGITS),
                round(float(pixels[part]) * across * down, _DIGITS),
                round(float(peaks[part]) * row.confidence, 6),
            )
        )
    return found
