"""Overlays against a slow transcription of their definition, and when they are on the disk."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import Preprocess, center_view
from lcam_cli.maps import syncing
from lcam_cli.maps.overlay import Colours, colour_table, draw_levels
from lcam_cli.maps.overlay_writer import OverlayWriter
from tests.maps.making import make_batch

Box = tuple[float, float, float, float]


def drawn_slowly(picture: Image.Image, levels: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """Floats, a pixel at a time: V bilinear, the colour of V with weight 0.8 V, the rest dimmed.

    V is rounded to levels after each of the two axes. Of a box that ends within pixels, the part
    over whole pixels is stretched over these.
    """
    pixels = np.asarray(picture).astype(float)
    x0, y0, x1, y1 = box
    rows, columns = levels.shape
    out = np.empty_like(pixels)
    for y in range(picture.height):
        for x in range(picture.width):
            if not (x0 <= x + 0.5 < x1 and y0 <= y + 0.5 < y1):
                grey = pixels[y, x] @ (0.299, 0.587, 0.114)
                out[y, x] = 0.55 * (0.3 * pixels[y, x] + 0.7 * grey)
                continue
            across = place(x, x0, x1, picture.width) * columns - 0.5
            down = place(y, y0, y1, picture.height) * rows - 0.5
            level = bilinear(levels, down, across)
            weight = round(0.8 * level) / 255
            colour = colour_table("inferno")[level]
            out[y, x] = weight * colour + (1 - weight) * pixels[y, x]
    return np.rint(out).astype(np.uint8)


def place(pixel: int, begin: float, end: float, length: int) -> float:
    """Where the middle of a pixel lies in a box along one axis, from 0 to 1."""
    first, last = max(int(np.ceil(begin - 0.5)), 0), min(int(np.ceil(end - 0.5)), length)
    start, stop = max(first, begin), min(last, end)
    at = start + (pixel + 0.5 - first) * (stop - start) / (last - first)
    return (at - begin) / (end - begin)


def bilinear(levels: NDArray[np.uint8], down: float, across: float) -> int:
    def two(index: float, length: int) -> tuple[int, int, float]:
        low = int(np.floor(index))
        return max(low, 0), min(low + 1, length - 1), index - low

    top, bottom, v = two(down, levels.shape[0])
    left, right, u = two(across, levels.shape[1])
    rows = levels.astype(float)
    upper = np.floor((1 - u) * rows[top, left] + u * rows[top, right] + 0.5)
    lower = np.floor((1 - u) * rows[bottom, left] + u * rows[bottom, right] + 0.5)
    return int(np.floor((1 - v) * upper + v * lower + 0.5))


def check(picture: Image.Image, levels: NDArray[np.uint8], box: Box) -> None:
    expected = drawn_slowly(picture, levels, box).astype(int)
    draw_levels(picture, levels, box, Colours.of("inferno"))
    apart = np.abs(np.asarray(picture).astype(int) - expected)
    # Where V is rounded the other way, the colour is a neighbour in the table.
    assert apart.max() <= 6
    assert (apart <= 1).mean() > 0.98


@pytest.mark.parametrize(
    ("size", "box"), [((60, 45), (7.5, 0, 52.5, 45)), ((40, 70), (0, 15, 40, 55))]
)
def test_drawing_is_what_it_is_defined_to_be(size: tuple[int, int], box: Box) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
    cells = Image.fromarray(rng.integers(0, 256, (4, 4), np.uint8))
    levels = np.asarray(cells.resize((28, 28), Image.Resampling.BILINEAR))
    check(Image.fromarray(noise), levels, box)


@pytest.mark.real
def test_photographs(real: Path) -> None:
    rng = np.random.default_rng(0)
    paths = sorted((real / "photos").glob("*.JPEG"))[::10]
    assert len(paths) == 20
    for path in paths:
        with Image.open(path) as opened:
            picture = opened.convert("RGB").resize((80, 60))
        cells = Image.fromarray(rng.integers(0, 256, (7, 7), np.uint8))
        levels = np.asarray(cells.resize((56, 56), Image.Resampling.BILINEAR))
        check(picture, levels, center_view(picture, Preprocess(56, 60))[1])


def test_a_sync_brings_what_was_written_to_the_disk_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(syncing, "sync", synced.append)
    monkeypatch.setattr(syncing, "sync_folder", synced.append)
    writer = OverlayWriter(tmp_path / "o")
    rows = [dataclasses.replace(row, crop_box=(0, 0, 40, 30)) for row in make_batch(0, 3)]
    files = [writer.write(Image.new("RGB", (40, 30)), row) for row in rows]
    writer.sync()
    assert synced[:3] == files
    assert set(synced[3:]) == {file.parent for file in files}
    synced.clear()
    writer.sync()
    assert synced == []
    writer.close()


def test_what_cannot_be_synced_stays_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise OSError(5, "Input/output error")

    writer = OverlayWriter(tmp_path / "o")
    row = dataclasses.replace(next(iter(make_batch(0, 1))), crop_box=(0, 0, 40, 30))
    monkeypatch.setattr(syncing, "sync", fail)
    writer.write(Image.new("RGB", (40, 30)), row)
    for _ in range(2):
        with pytest.raises(LcamError, match="Input/output error"):
            writer.sync()
    writer.close()
