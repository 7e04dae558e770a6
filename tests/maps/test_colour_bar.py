"""The strip below an overlay: the image stays as it is, and the strip says what it should."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont

from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import Window
from lcam_cli.maps.caption import joined
from lcam_cli.maps.colour_bar import colour_bar, window_text
from lcam_cli.maps.overlay import colour_table
from lcam_cli.maps.overlay_work import OverlayFormat
from lcam_cli.maps.overlay_writer import OverlayStyle, OverlayWriter
from tests.maps.making import make_batch

DEJAVU = Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")


def noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


def strip_of(
    width: int, height: int, window: Window = "auto", colormap: str = "inferno", limit: float = 1
) -> np.ndarray:
    return np.asarray(colour_bar((width, height), colour_table(colormap), window, limit))


def letters(text: str, size: int) -> np.ndarray:
    """Text in white on black, cut to its ink."""
    page = Image.new("L", (len(text) * size, 2 * size))
    ImageDraw.Draw(page).text((0, 0), text, fill="white", font=ImageFont.truetype(DEJAVU, size))
    return np.asarray(page.crop(page.getbbox()))


def ink(part: np.ndarray) -> np.ndarray:
    """What is written on a part of the strip, whose corner is its ground, cut to its ink."""
    ground = int(part[0, 0, 0])
    light = (part[..., 0].astype(float) - ground) * 255 / (255 - ground)
    page = Image.fromarray(np.rint(light).astype(np.uint8))
    return np.asarray(page.crop(page.getbbox()))


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (32, 32), (200, 31), (500, 375), (64, 4000)])
@pytest.mark.parametrize("window", ["auto", (0.0, 4095.0)])
def test_the_overlay_itself_stays(size: tuple[int, int], window: Window) -> None:
    picture = noise(*size)
    drawn = joined(picture, [colour_bar(size, colour_table("inferno"), window)])
    assert drawn.mode == "RGB"
    assert drawn.width == size[0]
    assert drawn.height > size[1]
    np.testing.assert_array_equal(np.asarray(drawn)[: size[1]], np.asarray(picture))
    assert picture.size == size


@pytest.mark.parametrize("colormap", ["inferno", "jet", "gray", "viridis_r"])
@pytest.mark.parametrize("size", [(32, 32), (500, 375)])
def test_the_bar_runs_from_one_end_of_the_colours_to_the_other(
    size: tuple[int, int], colormap: str
) -> None:
    strip = strip_of(*size, colormap=colormap)
    row = strip[len(strip) // 2]
    # Beside the bar are its edges, of one grey, which no label has as wide as that.
    edges = np.flatnonzero((strip[len(strip) // 4 : 3 * len(strip) // 4] == 150).all((0, 2)))
    bar = row[edges[0] + 1 : edges[-1]]
    values = np.linspace(0, 1, len(bar))
    wanted = colormaps[colormap](values, bytes=True)[:, :3].astype(int)
    np.testing.assert_array_equal(bar[[0, -1]], wanted[[0, -1]])
    np.testing.assert_allclose(bar, wanted, atol=8)  # two of a colour map's 256 steps
    assert len(bar) >= size[0] / 2


@pytest.mark.parametrize(("size", "height"), [((200, 200), 10), ((500, 500), 25), ((900, 500), 25)])
def test_labels_and_window_are_written(size: tuple[int, int], height: int) -> None:
    bare, strip = strip_of(*size), strip_of(*size, (0.0, 4095.0))
    line = len(bare)
    np.testing.assert_array_equal(strip[:line], bare)
    assert len(strip) == 2 * line, "the window has a line of its own"
    np.testing.assert_allclose(ink(strip[line:]), letters("window 0–4095", height), atol=3)
    edge = int(np.flatnonzero((bare[line // 4 : 3 * line // 4] == 150).all((0, 2)))[0])
    np.testing.assert_allclose(ink(bare[:, :edge]), letters("least 0", height), atol=3)


def test_it_says_where_the_colours_of_a_map_of_pixels_end() -> None:
    strip = strip_of(900, 500, limit=0.1314)
    edge = int(np.flatnonzero((strip[10:30] == 150).all((0, 2)))[-1])
    np.testing.assert_allclose(ink(strip[:, edge + 2 :]), letters("≥ 0.13 most", 25), atol=3)


def test_labels_that_do_not_fit_are_left_out() -> None:
    # 32 pixels hold no label and no window: all that is written is grey and the colours.
    strip = strip_of(32, 32, (0.0, 4095.0), colormap="Blues_r")
    assert len(strip) == len(strip_of(32, 32))
    ground = strip[0, 0]
    assert (strip[:, :3] == ground).all()
    # 90 have room for 0 and 1, but not for what they mean.
    strip = strip_of(90, 90)
    edge = int(np.flatnonzero((strip[4:12] == 150).all((0, 2)))[0])
    np.testing.assert_allclose(ink(strip[:, :edge]), letters("0", 10), atol=3)


@pytest.mark.parametrize(
    ("window", "text"),
    [
        ("auto", ""),
        ((0.0, 4095.0), "window 0–4095"),
        ((-160.0, 240.0), "window -160 to 240"),
        ((0.0, 0.125), "window 0–0.125"),
        ((0.0, 16777216.0), "window 0–16777216"),
    ],
)
def test_a_window_in_words(window: Window, text: str) -> None:
    assert window_text(window) == text


def test_an_unknown_colour_map() -> None:
    with pytest.raises(LcamError, match="virdis"):
        colour_bar((8, 8), colour_table("virdis"))


@pytest.mark.parametrize("extension", ["png", "jpg", "webp"])
def test_the_writer_draws_it_on_request_alone(tmp_path: Path, extension: OverlayFormat) -> None:
    row = dataclasses.replace(next(iter(make_batch(3, 1))), crop_box=(20, 0, 140, 144))
    plain = Image.new("RGB", (160, 144), (90, 120, 60))
    style = OverlayStyle(colorbar=True, window=(0.0, 4095.0))
    without = OverlayWriter(tmp_path / "without", extension).write(plain.copy(), row)
    written = OverlayWriter(tmp_path / "with", extension, style).write(plain.copy(), row)
    with Image.open(without) as one, Image.open(written) as other:
        assert one.size == (160, 144 + 16)  # the class and its score
        assert other.size == (160, 144 + 3 * 16)
        with_it = np.asarray(other.convert("RGB")).astype(int)
        apart = np.abs(with_it[:160] - np.asarray(one.convert("RGB")))
    # JPEG's colours reach a row beyond their blocks, and WebP shares out its bytes anew.
    assert apart[:158].max() == 0 or extension == "webp"
    assert apart.mean() <= {"png": 0, "jpg": 0.1, "webp": 3}[extension]
