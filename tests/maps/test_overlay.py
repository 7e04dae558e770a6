from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lcam_cli.errors import BadImageError, LcamError
from lcam_cli.images.own_outputs import MARK
from lcam_cli.images.preprocess import Fit, Preprocess, center_view
from lcam_cli.maps.overlay import colour_table, overlay
from lcam_cli.maps.overlay_work import OverlayFormat
from lcam_cli.maps.overlay_writer import OverlayWriter
from tests.maps.making import make_batch

GREY = (100, 100, 100)


def plain(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), GREY)


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_full_saliency_blends_the_last_colour_by_alpha(alpha: float) -> None:
    drawn = pixels(overlay(plain(8, 6), np.ones((4, 4), np.float32), (0, 0, 8, 6), alpha=alpha))
    want = (1 - alpha) * 100 + alpha * colour_table("inferno")[255]
    np.testing.assert_allclose(drawn, np.broadcast_to(want, drawn.shape), atol=1)


def test_no_saliency_leaves_the_seen_part_as_it_is_and_dims_the_rest() -> None:
    drawn = pixels(overlay(plain(8, 6), np.zeros((4, 4), np.float32), (1.4, 0, 6.6, 6)))
    # Pixel 1 has its centre at 1.5, inside; pixel 6 at 6.5, inside; 0 and 7 are outside.
    assert (drawn[:, 1:7] == 100).all()
    assert (drawn[:, [0, 7]] < 80).all()


def test_each_map_pixel_lies_over_its_part_of_the_box() -> None:
    saliency = np.zeros((2, 2), np.float32)
    saliency[0, 1] = 1
    drawn = pixels(overlay(plain(40, 40), saliency, (10, 20, 30, 40), alpha=1))
    changed = np.abs(drawn[20:40, 10:30] - 100).sum(axis=2)
    # Bilinear: full in the outer quarter beyond the map pixel's centre, none in the opposite ones.
    assert (changed[:5, 15:] == changed[0, 19]).all()
    assert changed[0, 19] > 100
    assert (changed[:, :5] == 0).all()
    assert (changed[15:] == 0).all()


def test_bilinear_between_two_map_pixels() -> None:
    saliency = np.array([[0, 1]], np.float32)
    drawn = pixels(overlay(plain(8, 1), saliency, (0, 0, 8, 1), colormap="gray", alpha=1))
    # Weights at the centres of 8 pixels over 2: 0, 0, 1/8, 3/8, 5/8, 7/8, 1, 1.
    v = np.array([0, 0, 1, 3, 5, 7, 8, 8]) / 8
    np.testing.assert_allclose(drawn[0, :, 0], (1 - v) * 100 + v * v * 255, atol=3)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    box=st.tuples(*[st.floats(-20, 100, width=32)] * 4),
    caption=st.text(max_size=30),
)
def test_any_picture_box_and_caption(
    size: tuple[int, int], box: tuple[float, float, float, float], caption: str
) -> None:
    picture = plain(*size)
    drawn = overlay(picture, np.full((3, 3), 0.5, np.float32), box, caption=caption)
    assert (drawn.width, drawn.mode) == (size[0], "RGB")
    # Letters are 10 pixels high, and those below an image of less than 64 are left out.
    assert drawn.height == size[1] + (16 if caption and min(size) >= 64 else 0)
    assert (pixels(picture) == 100).all()


@pytest.mark.parametrize("shade", [0, 255])
def test_the_caption_stands_below_the_picture_and_has_contrast(shade: int) -> None:
    picture = Image.new("RGB", (300, 200), (shade,) * 3)
    saliency = np.zeros((2, 2), np.float32)
    long = "Žluťoučký kůň " * 20 + "97.3%"
    drawn = pixels(overlay(picture, saliency, (0, 0, 300, 200), caption=long))
    assert (drawn[:200] == shade).all(), "no letter lies on the picture"
    strip = drawn[200:]
    assert len(strip) == 16
    assert strip.max() == 255
    assert np.median(strip) < 80
    # The letters end before the edge: the strip's last columns are as dark as its background.
    assert strip[:, -2:].max() < 80


def test_unknown_colour_maps_name_near_ones() -> None:
    with pytest.raises(LcamError, match="viridis"):
        colour_table("virdis")
    assert colour_table("jet").shape == (256, 3)


@pytest.mark.parametrize("extension", ["png", "jpg", "webp"])
def test_writer_mirrors_folders(tmp_path: Path, extension: OverlayFormat) -> None:
    row = dataclasses.replace(next(iter(make_batch(3, 1))), crop_box=(0, 0, 120, 100))
    written = OverlayWriter(tmp_path / "o", extension).write(plain(120, 100), row)
    assert written == tmp_path / "o" / "folder" / f"ü 3.jpg.3.{extension}"
    with Image.open(written) as saved:
        assert saved.size == (120, 100 + 16)
    with pytest.raises(LcamError, match="not empty"):
        OverlayWriter(tmp_path / "o", extension)
    OverlayWriter(tmp_path / "o", extension, may_exist=True).write(plain(120, 100), row)


@pytest.mark.parametrize("extension", ["png", "jpg", "webp"])
def test_bands_change_no_pixel(
    tmp_path: Path, extension: OverlayFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    for size, box in (
        ((70, 90), (10.5, 5, 60, 80)),
        ((90, 41), (24, 0, 65, 41)),
        ((9, 1), (4, 0, 5, 1)),
    ):
        picture = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))
        row = dataclasses.replace(next(iter(make_batch(3, 1))), crop_box=box)
        drawn = overlay(
            picture, row.saliency, box, caption=f"{row.class_name} {row.confidence:.1%}"
        )
        whole = OverlayWriter(tmp_path / "whole", extension, may_exist=True)
        expected = whole.write(picture.copy(), row).read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr("lcam_cli.maps.overlay._PIXELS_AT_ONCE", 200)
            patch.setattr("lcam_cli.maps.overlay_work._PIXELS_AT_ONCE", 300)
            bands = OverlayWriter(tmp_path / "bands", extension, may_exist=True)
            written = bands.write(picture.copy(), row)
        if extension != "png":  # whose compression may split, not its pixels
            assert written.read_bytes() == expected
            continue
        with Image.open(written) as saved:
            np.testing.assert_array_equal(np.asarray(saved), np.asarray(drawn))


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (3012, 5), (5, 3012), (1, 400), (20000, 3)])
@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
@pytest.mark.parametrize("resize", [36, 200])
def test_slivers_and_dots_have_boxes_inside_and_overlays(
    size: tuple[int, int], fit: Fit, resize: int
) -> None:
    picture = plain(*size)
    view, box = center_view(picture, Preprocess(32, resize, fit=fit))
    assert view.shape == (32, 32, 3)
    x0, y0, x1, y1 = box
    if fit == "pad":  # the box goes beyond the image, all of which is in it
        assert x0 <= 0 < size[0] <= x1
        assert y0 <= 0 < size[1] <= y1
    else:
        assert 0 <= x0 < x1 <= size[0]
        assert 0 <= y0 < y1 <= size[1]
    drawn = pixels(overlay(picture, np.ones((8, 8), np.float32), box, alpha=1))
    coloured = (drawn == colour_table("inferno")[255]).all(axis=2)
    assert coloured.any(), "what the network saw is shown, were it a part of a pixel"
    assert drawn.shape == (size[1], size[0], 3)


@pytest.mark.parametrize("extension", ["jpg", "webp"])
def test_a_picture_too_large_for_a_format_is_named(
    tmp_path: Path, extension: OverlayFormat
) -> None:
    row = next(iter(make_batch(0, 1)))
    told = f"cannot be drawn as {extension}: of its 70000 × 1 pixels, one side has more than"
    with pytest.raises(BadImageError, match=told):
        OverlayWriter(tmp_path / "out", extension).write(plain(70_000, 1), row)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [MARK]
    OverlayWriter(tmp_path / "png").write(plain(70_000, 1), row)


@pytest.mark.real
def test_on_a_photograph(real: Path) -> None:
    with Image.open(real / "photos" / "n01440764_tench.JPEG") as opened:
        picture = opened.convert("RGB")
    width, height = picture.size
    y, x = np.mgrid[-1:1:7j, -1:1:7j]
    drawn = overlay(picture, np.exp(-4 * (x**2 + y**2)).astype("f4"), (0, 0, width, height))
    change = np.abs(pixels(drawn) - pixels(picture)).sum(axis=2)
    assert change[height // 2, width // 2] > 5 * change[:9, :9].mean()
