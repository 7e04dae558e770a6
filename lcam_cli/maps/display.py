"""Which part of V the colours show. For drawing alone: what is stored and measured stays V.

Maps of single pixels (saliency, integrated gradients) have a few very bright pixels; with 1 as the
brightest colour all others are nearly invisible. Their colours end at the 99th percentile, as in
the figures of Smilkov et al. (SmoothGrad, 2017).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lcam_cli.maps.record import Floats

PERCENTILE = 99
"""The percentage of a map's pixels that are not brighter than the end of the colours."""

DISPLAY_NOTE = f"colours end at the map's {PERCENTILE}th percentile"
"""What is said where maps are drawn so."""


def display_limit(V: Floats) -> float:
    """Return the value that the brightest colour stands for: the 99th percentile of V.

    Args:
        V: (H, W) in [0, 1].

    Returns:
        In (0, 1]: a value of the map, which at most 1% of its pixels exceed; 1 where that is 0, as
        in a map with fewer bright pixels.
    """
    last = (V.size - 1) * PERCENTILE // 100
    limit = float(np.partition(V, last, axis=None)[last])
    return limit if limit > 0 else 1.0


def display_levels(V: Floats, limit: float = 1.0) -> NDArray[np.uint8]:
    """Return V as the levels that are drawn, uint8 ``(H, W)``: 255 at ``limit`` and above."""
    if limit < 1:
        V = np.minimum(V / np.float32(limit), np.float32(1))
    levels: NDArray[np.uint8] = np.rint(V * np.float32(255)).astype(np.uint8)
    return levels
