"""What is drawn of maps of single pixels, and of cells with --smooth: by maps made by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lcam_cli.maps.display import display_levels, display_limit
from lcam_cli.maps.overlay import overlay
from lcam_cli.maps.overlay_writer import OverlayStyle, OverlayWriter
from lcam_cli.maps.smooth import smooth_cells
from tests.maps.making import make_batch


def test_colours_end_at_the_99th_percentile() -> None:
    V = np.zeros((10, 20), np.float32)
    V.reshape(-1)[:7] = (1, 1, 0.2, 0.1, 0.1, 0.05, 0.05)
    # Of 200 values in ascending order the one at 99% of the way is the third highest.
    assert display_limit(V) == np.float32(0.2)
    levels = display_levels(V, display_limit(V)).reshape(-1)
    np.testing.assert_array_equal(levels[:7], [255, 255, 255, 128, 128, 64, 64])
    assert not levels[7:].any()
    np.testing.assert_array_equal(display_levels(V).reshape(-1)[:4], [255, 255, 51, 26])


def test_a_map_with_fewer_bright_pixels_is_drawn_as_it_is() -> None:
    V = np.zeros((10, 20), np.float32)
    V[3, 3] = 1
    assert display_limit(V) == 1
    assert display_limit(np.full((4, 4), 0.3, np.float32)) == np.float32(0.3)


def test_an_overlay_of_pixels_shows_what_an_overlay_of_cells_would_hide(tmp_path: Path) -> None:
    V = np.zeros((100, 100), np.float32)
    V[:2, :10] = 1
    V[40:60, 40:60] = 0.1
    row = dataclasses.replace(
        next(iter(make_batch(0, 1))), saliency=V, crop_box=(0, 0, 100, 100), cam=None
    )
    changes = []
    for to_percentile in (False, True):
        style = OverlayStyle(to_percentile=to_percentile)
        writer = OverlayWriter(tmp_path / f"{to_percentile}", style=style)
        written = writer.write(Image.new("RGB", (100, 100)), row)
        with Image.open(written) as drawn:
            pixels = np.asarray(drawn).astype(int)
        # Where it says what the colours end at, there is a second line below.
        assert len(pixels) == 100 + 16 * (1 + to_percentile)
        changes.append(np.abs(pixels[45:55, 45:55]).mean())
    assert changes[0] < 5
    assert changes[1] > 150
    assert (row.saliency == V).all(), "what is stored stays"
    limit = display_limit(V)
    assert limit == np.float32(0.1)
    by_hand = overlay(Image.new("RGB", (100, 100)), V, (0, 0, 100, 100), limit=limit)
    np.testing.assert_array_equal(pixels[:100], np.asarray(by_hand))


GRIDS = [None, {"start": [3.5, 5.0], "step": [8.0, 4.0]}]


@pytest.mark.parametrize("grid", GRIDS)
def test_smooth_cells_meet_the_cells_and_have_no_creases(
    grid: dict[str, list[float]] | None,
) -> None:
    rng = np.random.default_rng(0)
    L = rng.normal(size=(5, 6)).astype(np.float32)
    cells = (L - L.min()) / (L.max() - L.min())
    H, W = 40, 42
    step = (H / 5, W / 6) if grid is None else grid["step"]
    start = tuple((s - 1) / 2 for s in step) if grid is None else grid["start"]

    def linear(pixels: int, count: int, axis: int) -> np.ndarray:
        at = ((np.arange(pixels) - start[axis]) / step[axis]).clip(0, count - 1)
        return (1 - np.abs(at[:, None] - np.arange(count))).clip(0)

    V = (linear(H, 5, 0) @ cells @ linear(W, 6, 1).T).astype(np.float32)
    row = dataclasses.replace(next(iter(make_batch(0, 1))), saliency=V, cam=L)
    smooth = smooth_cells(row, grid)
    assert smooth.shape == V.shape
    assert smooth.min() >= 0
    assert smooth.max() <= 1
    for p in range(5):
        for q in range(6):
            y, x = start[0] + p * step[0], start[1] + q * step[1]
            if y == int(y) < H and x == int(x) < W:
                assert smooth[int(y), int(x)] == pytest.approx(cells[p, q], abs=1e-5)
    inner = smooth[12:28, 12:28]
    creases = np.abs(np.diff(V[12:28, 12:28], 2, axis=0)).max()
    assert np.abs(np.diff(inner, 2, axis=0)).max() < creases


def test_cubic_weights_are_those_of_keys() -> None:
    # Half-way between two cells: (-1, 9, 9, -1) / 16.
    L = np.array([[0.0, 0, 1, 1, 0, 0]], np.float32)
    V = np.array([[0, 0, 0, 0.5, 1, 1, 1, 0.5, 0, 0, 0]], np.float32)
    row = dataclasses.replace(next(iter(make_batch(0, 1))), saliency=V, cam=L)
    smooth = smooth_cells(row, {"start": [0, 0], "step": [1, 2.0]})
    beside, middle = 8 / 16, 18 / 16  # 9 − 1, and 9 + 9 above 1, which is cut
    np.testing.assert_allclose(smooth[0, [3, 5, 7]], [beside, min(middle, 1), beside], atol=1e-6)
    np.testing.assert_allclose(smooth[0, ::2], L[0], atol=1e-6)


def test_what_is_not_made_of_its_cells_stays() -> None:
    row = next(iter(make_batch(0, 1)))
    assert smooth_cells(row, None) is row.saliency
    assert smooth_cells(dataclasses.replace(row, cam=None), None) is row.saliency
