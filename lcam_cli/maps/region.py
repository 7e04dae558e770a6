"""The region that a map keeps, its highest ν% of pixels: its parts, and where they lie."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lcam_cli.maps.record import Floats


def kept_pixels(nu: float, pixels: int) -> int:
    """Return how many of ``pixels`` stay at ``nu`` percent: the nearest whole number.

    A half goes to the even neighbour, like Python's ``round``.
    """
    return round(nu * pixels / 100)


def kept_region(V: Floats, nu: float) -> NDArray[np.bool_]:
    """Return which pixels are the highest ν% of a map: those that measures keep (L-CAM, Eq. 10).

    Args:
        V: (H, W) in [0, 1].
        nu: ν in (0, 100].

    Returns:
        bool (H, W), true for exactly ``kept_pixels(ν, H·W)``; of equal ones the first in row-major
        order.
    """
    flat = V.reshape(-1)
    count = kept_pixels(nu, flat.size)
    if count == 0:
        return np.zeros(V.shape, np.bool_)
    cut = np.partition(flat, flat.size - count)[flat.size - count]
    kept: NDArray[np.bool_] = flat > cut
    equal = np.flatnonzero(flat == cut)
    kept[equal[: count - np.count_nonzero(kept)]] = True
    return kept.reshape(V.shape)
