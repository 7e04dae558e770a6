"""Connected parts of binary images: many images at once, as the boxes around their parts.

An image is cut into runs, its rows' stretches of pixels that are set. Runs that touch, in rows
next to each other, are of one part; corners touch too (8-connectivity, as OpenCV's contours). There
are far fewer runs than pixels, and all that is done to them is done to all at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_Places = NDArray[np.int64]


def component_boxes(pictures: NDArray[np.bool_]) -> tuple[_Places, NDArray[np.float32]]:
    """Find the box around each connected part of each image.

    Args:
        pictures: T of them, (T, H, W).

    Returns:
        For each of n parts, image by image: its image's number, int64 (n,); and its box,
        float32 (n, 4): x0, y0, x1, y1 in pixels, edges, so that a part of one pixel is 1 wide.
    """
    T, H, W = pictures.shape
    row, begin, end = _runs(pictures.reshape(T * H, W))
    of_run, first = _numbered(row, begin, end, H, W)
    return row[first] // H, _boxes((row % H, begin, end), of_run, first, W)


def parts_of(picture: NDArray[np.bool_]) -> tuple[NDArray[np.float32], _Places]:
    """Find the connected parts of one image.

    Args:
        picture: (H, W).

    Returns:
        The box around each of n parts, as :func:`component_boxes` has them; and the number of the
        part, in 0 to n − 1, of each pixel that is set, int64, in row-major order.
    """
    H, W = picture.shape
    row, begin, end = _runs(picture)
    of_run, first = _numbered(row, begin, end, H, W)
    return _boxes((row, begin, end), of_run, first, W), np.repeat(of_run, end - begin)


def _numbered(
    row: _Places, begin: _Places, end: _Places, H: int, W: int
) -> tuple[_Places, _Places]:
    """The number of the part of each run, and the first run of each part."""
    part = _parts(row, begin, end, H, W)
    is_first = part == np.arange(len(part))
    return (np.cumsum(is_first) - 1)[part], np.flatnonzero(is_first)


def _boxes(
    runs: tuple[_Places, _Places, _Places], of_run: _Places, first: _Places, W: int
) -> NDArray[np.float32]:
    """The boxes around parts, (n, 4), of runs: the row of each in its image, begin and end."""
    row, begin, end = runs
    # A part's first run is in its uppermost row; its other edges are those of any of its runs.
    edges = np.empty((4, len(first)), np.int64)
    edges[0], edges[1], edges[2:] = W, row[first], 0
    np.minimum.at(edges[0], of_run, begin)
    np.maximum.at(edges[2], of_run, end)
    np.maximum.at(edges[3], of_run, row + 1)
    return np.ascontiguousarray(edges.T, np.float32)


def _runs(rows: NDArray[np.bool_]) -> tuple[_Places, _Places, _Places]:
    """The runs of rows (N, W): the row of each, its first column and the one after its last."""
    N, W = rows.shape
    padded = np.zeros((N, W + 2), np.int8)
    padded[:, 1:-1] = rows
    changes = np.flatnonzero(np.diff(padded.reshape(-1)))
    row, column = np.divmod(changes, W + 2)
    return row[::2], column[::2], column[1::2]


def _parts(row: _Places, begin: _Places, end: _Places, H: int, W: int) -> _Places:
    """For each run the first run of its connected part."""
    # Along one line, row after row, with a gap between rows in which nothing touches.
    stride = W + 2
    begins, ends = row * stride + begin, row * stride + end
    # Below [begin, end) touches whatever begins at `end` at the latest, and ends at `begin` at the
    # earliest: one column further on either side, for corners.
    first = np.searchsorted(ends, begins + stride, "left")
    stop = np.searchsorted(begins, ends + stride, "right")
    is_last_row = row % H == H - 1  # below it begins the next image
    touching = np.where(is_last_row, 0, (stop - first).clip(0))
    above = np.repeat(np.arange(len(row)), touching)
    offset = np.arange(len(above)) - np.repeat(np.cumsum(touching) - touching, touching)
    below = np.repeat(first, touching) + offset
    return _joined(len(row), above, below)


def _joined(count: int, one: _Places, other: _Places) -> _Places:
    """For each of ``count`` nodes the first node of its connected part, by pairs that touch.

    All pairs point the later of two parts to the earlier at once, then every node is pointed to
    the end of its chain; some rounds later no pair is of two parts.
    """
    part = np.arange(count)
    while len(one):
        low, high = np.minimum(part[one], part[other]), np.maximum(part[one], part[other])
        apart = low != high
        one, other = one[apart], other[apart]
        np.minimum.at(part, high[apart], low[apart])
        while True:
            further = part[part]
            if np.array_equal(further, part):
                break
            part = further
    return part
