"""Maps that are the same everywhere: they say nothing about where the classifier looked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

_ROWS_AT_ONCE = 256
_LINES = 4


@dataclass(frozen=True)
class FlatSummary:
    """The flat maps of a file or folder.

    Attributes:
        rows: How many there are, of at least one.
        path: The image of the first of them, as rows call it.
        class_index: The class explained there.
    """

    rows: int
    path: str
    class_index: int


def is_flat(saliency: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which maps have one value everywhere, (B,), of maps (B, H, W) as they are stored."""
    flat: NDArray[np.bool_] = (saliency == saliency[:, :1, :1]).all((1, 2))
    return flat


def find_flat(saliency: NDArray[Any]) -> NDArray[np.intp]:
    """Return the places of flat maps, ascending, of maps (B, H, W) as they are stored."""
    # A few lines tell nearly every map from a flat one.
    perhaps = np.flatnonzero(is_flat(saliency[:, :: max(1, saliency.shape[1] // _LINES)]))
    return perhaps[is_flat(saliency[perhaps])] if len(perhaps) else perhaps


def find_flat_rows(saliency: h5py.Dataset, rows: int) -> list[int]:
    """Return which of the first rows of a dataset of maps are flat.

    Args:
        saliency: (N, H, W).
        rows: How many are looked at.
    """
    found: list[int] = []
    step = max(1, saliency.shape[1] // _LINES)
    for start in range(0, rows, _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, rows)
        # A few lines tell nearly every map from a flat one.
        perhaps = np.flatnonzero(is_flat(saliency[start:stop, ::step])) + start
        found += [int(row) for row in perhaps if is_flat(saliency[row : row + 1])[0]]
    return found
