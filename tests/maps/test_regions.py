"""The region a map keeps: its pixels, outline and boxes, by maps whose regions are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from lcam_cli.images.preprocess import Fit, Preprocess, crop_box
from lcam_cli.maps.components import parts_of
from lcam_cli.maps.contour import draw_contour
from lcam_cli.maps.record import Map
from lcam_cli.maps.region import kept_region
from lcam_cli.maps.regions import regions_of
from lcam_cli.measures.threshold import Thresholds
from tests.maps.making import make_batch


@pytest.mark.parametrize("nu", [0.3, 1, 15, 50, 99.9, 100])
@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_the_region_is_what_measures_keep(nu: float, levels: int) -> None:
    rng = np.random.default_rng(levels)
    V = (rng.integers(0, levels, (17, 23)) / levels).astype(np.float32)
    expected = Thresholds(torch.from_numpy(V)[None]).is_kept(nu)[0].numpy()
    np.testing.assert_array_equal(kept_region(V, nu), expected)


def test_parts_know_their_pixels() -> None:
    picture = np.array([[1, 1, 0, 0, 1], [0, 0, 1, 0, 1], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]], bool)
    boxes, of_pixel = parts_of(picture)
    np.testing.assert_array_equal(boxes, [[0, 0, 3, 2], [4, 0, 5, 2], [0, 3, 1, 4]])
    np.testing.assert_array_equal(of_pixel, [0, 0, 1, 0, 1, 2])


def row_of(V: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float]) -> Map:
    row = next(iter(make_batch(0, 1)))
    return dataclasses.replace(
        row, saliency=V.astype(np.float32), size=size, crop_box=box, confidence=0.5
    )


def two_blocks() -> np.ndarray:
    """20×40: a block of 50 pixels, one of 30 in a corner; together 10%, all equal in each."""
    V = np.zeros((20, 40))
    V[5:10, 10:20] = 1
    V[15:20, 34:40] = 0.5
    return V


BOXES = [
    # size, view, and the boxes by hand: the block's edges times the scale, and the view's corner
    ((40, 20), (0, 0, 40, 20), (10, 5, 20, 10), (34, 15, 40, 20)),
    ((400, 400), (0, 0, 400, 400), (100, 100, 200, 200), (340, 300, 400, 400)),  # squashed
    ((100, 30), (10, 5, 90, 25), (30, 10, 50, 15), (78, 20, 90, 25)),  # a crop
    ((40, 10), (0, -5, 40, 15), (10, 0, 20, 5), None),  # padded: the corner lies on black
]


@pytest.mark.parametrize(("size", "view", "first", "second"), BOXES)
def test_boxes_lie_where_the_regions_do_in_the_original(
    size: tuple[int, int],
    view: tuple[float, float, float, float],
    first: tuple[float, ...],
    second: tuple[float, ...] | None,
) -> None:
    found = regions_of(row_of(two_blocks(), size, view), 10)
    assert found[0][:4] == first
    assert found[0].score == 0.5, "the class's own, where the map's peak is"
    assert found[0].area == (first[2] - first[0]) * (first[3] - first[1])
    assert [region[:4] for region in found[1:]] == ([] if second is None else [second])
    assert [region.score for region in found[1:]] == ([] if second is None else [0.25])


def test_specks_are_left_out_but_not_a_map_of_nothing_else() -> None:
    V = np.zeros((100, 100))
    V[10:40, 10:40] = 1  # 900
    V[80, 80] = 1
    assert len(regions_of(row_of(V, (100, 100), (0, 0, 100, 100)), 9.01)) == 1
    specks = np.zeros((100, 100))
    specks[::4, ::4] = 1  # 625, none of which touch
    assert len(regions_of(row_of(specks, (100, 100), (0, 0, 100, 100)), 6.25)) == 1


def outlined(
    region: np.ndarray, size: tuple[int, int], view: tuple[float, float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Where an outline is white, and where black, on grey."""
    picture = Image.new("RGB", size, (90, 90, 90))
    draw_contour(picture, region, view)
    pixels = np.asarray(picture)
    return (pixels == 255).all(2), (pixels == 0).all(2)


@pytest.mark.parametrize(
    ("size", "view", "edges"),
    [
        ((200, 100), (0, 0, 200, 100), (50, 25, 100, 50)),
        ((200, 200), (0, 0, 200, 200), (50, 50, 100, 100)),
        ((240, 140), (20, 20, 220, 120), (70, 45, 120, 70)),
        ((200, 60), (0, -20, 200, 80), (50, 5, 100, 30)),
    ],
)
def test_a_contour_runs_along_the_edge_of_the_region(
    size: tuple[int, int],
    view: tuple[float, float, float, float],
    edges: tuple[int, int, int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    region = np.zeros((20, 40), bool)
    region[5:10, 10:20] = True
    white, black = outlined(region, size, view)
    x0, y0, x1, y1 = edges
    expected = np.zeros(size[::-1], bool)
    expected[y0:y1, x0:x1] = True
    expected[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1] = False
    # At corners, which are rounded by up to half a pixel of the map, they may differ.
    cells = max(size[0] // 40, size[1] // 20, 5)
    for x in (x0, x1):
        for y in (y0, y1):
            near = np.s_[max(y - cells, 0) : y + cells, max(x - cells, 0) : x + cells]
            expected[near] = white[near]
    np.testing.assert_array_equal(white, expected)
    assert black[y0 - 1, (x0 + x1) // 2]
    assert black[(y0 + y1) // 2, x1]
    assert not (white & black).any()
    monkeypatch.setattr("lcam_cli.maps.contour._PIXELS_AT_ONCE", 400)
    np.testing.assert_array_equal(outlined(region, size, view)[0], white)


def test_a_contour_closes_at_the_edge_of_the_view() -> None:
    white, _ = outlined(np.ones((4, 4), bool), (80, 60), (10, 5, 50, 45))
    expected = np.zeros((60, 80), bool)
    expected[5:45, 10:50] = True
    expected[6:44, 11:49] = False
    np.testing.assert_array_equal(white, expected)


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_nothing_kept_and_slivers(fit: Fit) -> None:
    for size in ((300, 200), (1, 300), (4000, 3)):
        box = crop_box(size, Preprocess(32, 36, fit=fit))
        white, black = outlined(np.zeros((8, 8), bool), size, box)
        assert not white.any()
        assert not black.any()
        found = regions_of(row_of(np.random.default_rng(0).random((8, 8)), size, box), 15)
        for x0, y0, x1, y1, *_ in found:
            assert 0 <= x0 < x1 <= size[0]
            assert 0 <= y0 < y1 <= size[1]
