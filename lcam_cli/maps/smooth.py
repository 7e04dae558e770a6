"""Maps with their cells interpolated by cubics, so that no edges of cells show; for display."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lcam_cli.maps.record import Floats, Map

# V at half precision, of a grid that is known to a digit or two.
_SAME = 0.02


def smooth_cells(row: Map, grid: Mapping[str, Any] | None) -> Floats:
    """Return V with its cells interpolated by cubics instead of linearly.

    Between centres of cells runs Keys' cubic with a = −1/2 (IEEE Trans. ASSP 29, 1981; Pillow's
    and PyTorch's bicubic kernels differ in a alone), clipped to [0, 1].

    Args:
        row: The map.
        grid: Where the centres of its cells lie, ``{"start": [y, x], "step": [y, x]}`` in pixels
            of V; None where they tile V evenly.

    Returns:
        float32 (H, W) in [0, 1]; V itself where it is not made of cells, or not of these.
    """
    V, L = row.saliency, row.cam
    if L is None or not (span := float(L.max() - L.min())) > 0:
        return V
    cells = (L - L.min()) / np.float32(span)
    places = [
        _places(pixels, count, axis, grid)
        for axis, (pixels, count) in enumerate(zip(V.shape, L.shape, strict=True))
    ]
    linear = [_weights(at, count, _linear, 1) for at, count in zip(places, L.shape, strict=True)]
    if np.abs(linear[0] @ cells @ linear[1].T - V).max() > _SAME:
        return V
    down, across = (
        _weights(at, count, _cubic, 2) for at, count in zip(places, L.shape, strict=True)
    )
    smooth: Floats = (down @ cells @ across.T).clip(0, 1).astype(np.float32)
    return smooth


def _places(
    pixels: int, cells: int, axis: int, grid: Mapping[str, Any] | None
) -> NDArray[np.float32]:
    """Where each row or column of V lies among the cells, in cells."""
    step = pixels / cells if grid is None else float(grid["step"][axis])
    start = (step - 1) / 2 if grid is None else float(grid["start"][axis])
    return ((np.arange(pixels) - start) / step).clip(0, cells - 1).astype(np.float32)


def _weights(at: NDArray[np.float32], cells: int, kernel: Any, reach: int) -> NDArray[np.float32]:
    """How much each cell weighs in each place, (places, cells); cells at the edge go on beyond."""
    weights = np.zeros((len(at), cells), np.float32)
    low = np.floor(at).astype(np.int64)
    for offset in range(1 - reach, reach + 1):
        index = low + offset
        np.add.at(weights, (np.arange(len(at)), index.clip(0, cells - 1)), kernel(at - index))
    return weights


def _linear(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    return (1 - np.abs(distance)).clip(0)


def _cubic(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    x = np.abs(distance)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0)).astype(np.float32)
