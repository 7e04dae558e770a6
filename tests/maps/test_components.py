"""Connected parts, against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from lcam_cli.maps.components import component_boxes

CORNERS_TOUCH = np.ones((3, 3))


def expected(pictures: np.ndarray) -> list[tuple[int, ...]]:
    found = []
    for number, picture in enumerate(pictures):
        labelled, _ = ndimage.label(picture, CORNERS_TOUCH)
        for rows, columns in ndimage.find_objects(labelled):
            found.append((number, columns.start, rows.start, columns.stop, rows.stop))
    return sorted(found)


def found(pictures: np.ndarray) -> list[tuple[int, ...]]:
    numbers, boxes = component_boxes(pictures)
    assert boxes.dtype == np.float32
    assert (np.diff(numbers) >= 0).all(), "picture by picture"
    return sorted((int(n), *map(int, box)) for n, box in zip(numbers, boxes, strict=True))


@settings(max_examples=200, deadline=None)
@given(arrays(np.bool_, array_shapes(min_dims=3, max_dims=3, max_side=9), elements=st.booleans()))
def test_boxes_are_those_of_scipys_parts(pictures: np.ndarray) -> None:
    assert found(pictures) == expected(pictures)


@pytest.mark.parametrize("density", [0.02, 0.3, 0.4, 0.5, 0.6, 0.98])
def test_large_pictures_too(density: float) -> None:
    pictures = np.random.default_rng(3).random((3, 90, 70)) < density
    assert found(pictures) == expected(pictures)


def test_a_spiral_is_one_part() -> None:
    spiral = np.zeros((41, 41), bool)
    y = x = 20
    for turn in range(36):  # arms two pixels apart
        dy, dx = ((0, 1), (1, 0), (0, -1), (-1, 0))[turn % 4]
        for _ in range(2 * (turn // 2 + 1)):
            if 0 <= y < 41 and 0 <= x < 41:
                spiral[y, x] = True
            y, x = y + dy, x + dx
    assert len(expected(spiral[None])) == 1
    assert found(spiral[None]) == expected(spiral[None])


def test_pictures_do_not_touch_each_other() -> None:
    assert found(np.ones((3, 2, 2), bool)) == [(n, 0, 0, 2, 2) for n in range(3)]


def test_corners_touch_and_edges_of_rows_do_not() -> None:
    diagonal = np.eye(3, dtype=bool)
    ends = np.array([[0, 0, 1], [1, 0, 0], [0, 0, 0]], bool)
    assert found(np.stack([diagonal, ends])) == [(0, 0, 0, 3, 3), (1, 0, 1, 1, 2), (1, 2, 0, 3, 1)]


def test_nothing_set_is_no_part() -> None:
    assert found(np.zeros((2, 3, 4), bool)) == []
