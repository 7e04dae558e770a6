"""What files hold becomes what the network takes: values to [0, 1], windows, channels."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torchvision import transforms

from lcam_cli.errors import BadImageError
from lcam_cli.images.channels import pixels_of
from lcam_cli.images.decoder import borrowed_decoder, read_whole
from lcam_cli.images.picture import Picture, ReadOptions
from lcam_cli.images.pixels import FloatPlane, Pixels
from lcam_cli.images.preprocess import RESAMPLING, Preprocess, Window, center_view
from lcam_cli.images.read import MAX_PIXELS, read_pixels
from lcam_cli.images.request import Request
from lcam_cli.images.rgb import Levels
from lcam_cli.images.stream import stream_batches
from tests.images.test_depth import deep_png, twelve_bit_tiff

RNG = np.random.default_rng(0)
DEEP = RNG.integers(0, 65536, (30, 41), np.uint16)
COLOUR = RNG.integers(0, 256, (30, 41, 3), np.uint8)


def preprocess_of(channels: int, window: Window = "auto") -> Preprocess:
    middle = (0.5,) * channels
    return Preprocess(12, 16, middle, middle, window=window)


def whole(picture: Picture | str, channels: int = 3, window: Window = "auto") -> NDArray[Any]:
    """All of an image as the network would see it, not resized, (H, W, C)."""
    if isinstance(picture, Picture):
        pixels, _ = pixels_of(picture, channels, window)
    else:
        options = ReadOptions(MAX_PIXELS, window=window)
        pixels, _ = read_pixels(picture, options, channels=channels)
    return as_it_is(pixels)


def as_it_is(pixels: Pixels) -> NDArray[Any]:
    return pixels.changed(lambda plane: plane.crop((0, 0, *pixels.size)))


def bilinear(length: int, to: int) -> NDArray[np.float64]:
    """Weights (to, length) of an antialiased triangle, written out from its definition."""
    scale = length / to
    reach = max(scale, 1.0)
    centres = (np.arange(to) + 0.5) * scale
    distance = np.abs(np.arange(length) + 0.5 - centres[:, None]) / reach
    weights = np.clip(1 - distance, 0, None)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("kind", ["png", "tiff", "npy"])
def test_16_bits_reach_the_network_unrounded(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "npy":
        np.save(path, DEEP)
    else:
        Image.fromarray(DEEP).save(path)
    for channels in (1, 3):
        values = whole(str(path), channels)
        assert (values.dtype, values.shape) == (np.float32, (30, 41, channels))
        for channel in range(channels):
            expected = DEEP.astype(np.float32) / np.float32(65535)
            np.testing.assert_array_equal(values[..., channel], expected)
    # 41 × 30 to 21 × 16, and of these the middle 12 × 12.
    with borrowed_decoder() as decoder:
        view = decoder.read(Request(str(path), preprocess=preprocess_of(1)))
    resized = bilinear(30, 16) @ (DEEP / 65535) @ bilinear(41, 21).T
    np.testing.assert_allclose(view.pixels[..., 0], resized[2:14, 4:16], atol=1e-6)
    assert view.pixels.dtype == np.float32
    assert view.size == (41, 30)


def test_8_bits_stay_8_bits_and_torchvision_s(tmp_path: Path) -> None:
    for mode in ("RGB", "L", "1", "P", "CMYK"):
        picture = Image.fromarray(COLOUR).convert(mode)
        picture.save(tmp_path / "a.tif")
        rgb = picture.convert("RGB")
        for channels, turned in ((3, rgb), (1, rgb.convert("L"))):
            expected = transforms.CenterCrop(12)(transforms.Resize(16)(turned))
            with borrowed_decoder() as decoder:
                request = Request(str(tmp_path / "a.tif"), preprocess=preprocess_of(channels))
                view = decoder.read(request).pixels
            assert view.dtype == np.uint8
            np.testing.assert_array_equal(view, np.array(expected).reshape(12, 12, channels))


@pytest.mark.parametrize("bits", [9, 12, 16])
def test_a_window_shows_the_twin_of_8_bits(tmp_path: Path, bits: int) -> None:
    grey = COLOUR[..., 0]
    white = 2**bits - 1
    Image.fromarray(np.rint(grey * (white / 255)).astype(np.uint16)).save(tmp_path / "a.png")
    Image.fromarray(grey).save(tmp_path / "b.png")
    shown = preprocess_of(3, (0, white))
    with borrowed_decoder() as decoder:
        deep = decoder.read(Request(str(tmp_path / "a.png"), preprocess=shown)).pixels
        flat = decoder.read(Request(str(tmp_path / "b.png"), preprocess=preprocess_of(3))).pixels
    np.testing.assert_allclose(deep, flat / 255, atol=1 / 255)
    picture = read_whole(str(tmp_path / "a.png"), MAX_PIXELS, shown)
    assert np.abs(np.array(picture)[..., 0].astype(int) - grey).max() <= 1


def test_windows_clip_and_know_the_values_of_the_file(tmp_path: Path) -> None:
    values = np.array([[0, 1000, 2000, 3000, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", values.astype(np.float64) - 1000)
    (tmp_path / "a.pgm").write_bytes(
        b"P5 5 1 4000\n" + np.minimum(values, 4000).astype(">u2").tobytes()
    )
    expected = [0, 0, 0.5, 1, 1]
    for name, window in (
        ("a.png", (1000, 3000)),
        ("a.npy", (0, 2000)),
        ("a.pgm", (1000, 3000)),
    ):
        seen = whole(str(tmp_path / name), 1, window)
        np.testing.assert_allclose(seen[0, :, 0], expected, atol=1e-7)
    np.testing.assert_allclose(whole(str(tmp_path / "a.pgm"), 1)[0, 1, 0], 1000 / 4000)


def test_windows_of_8_bits() -> None:
    seen = whole(Picture(Image.fromarray(COLOUR)), 3, (50, 100))
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen, ((COLOUR.astype(float) - 50) / 50).clip(0, 1), atol=1e-6)
    grey = Image.fromarray(COLOUR).convert("L")
    seen = whole(Picture(Image.fromarray(COLOUR)), 1, (50, 100))[..., 0]
    np.testing.assert_allclose(seen, ((np.array(grey) - 50.0) / 50).clip(0, 1), atol=1e-6)
    yes = np.array([[True, False]])
    assert whole(Picture(yes), 1).tolist() == [[[255], [0]]]
    assert whole(Picture(yes), 1, (0, 2)).tolist() == [[[0.5], [0]]]


def test_windows_of_deep_colour_are_in_its_16_bits(tmp_path: Path) -> None:
    values = RNG.integers(0, 65536, (4, 5, 3), np.uint16)
    deep_png(tmp_path / "a.png", values)
    seen = whole(str(tmp_path / "a.png"), 3, (10000, 40000))
    expected = ((values - 10000.0) / 30000).clip(0, 1)
    np.testing.assert_allclose(seen, expected, atol=257 / 30000)  # Pillow has the upper 8 bits


def test_own_levels_and_inverted() -> None:
    values = np.array([[-1000, 0, 500, 9000]], np.int16)
    own = Picture(values, Levels(-1000, 9000, 0, 1000))
    assert whole(own, 1)[0, :, 0].tolist() == [0, 0, 0.5, 1]
    turned = Picture(values, Levels(-1000, 9000, 0, 1000), inverted=True)
    assert whole(turned, 1)[0, :, 0].tolist() == [1, 1, 0.5, 0]
    assert whole(turned, 1, (0, 500))[0, :, 0].tolist() == [1, 1, 0, 0]
    flat = Picture(Image.fromarray(COLOUR), inverted=True)
    np.testing.assert_array_equal(whole(flat), 255 - COLOUR)
    np.testing.assert_allclose(whole(flat, 3, (0, 255)), 1 - COLOUR / 255, atol=1e-6)


def test_a_tiff_whose_0_is_white(tmp_path: Path) -> None:
    """Pillow turns those of 8 bits alone."""
    path = tmp_path / "a.tif"
    Image.fromarray(DEEP).save(path, tiffinfo={262: 0})
    with Image.open(path) as opened:
        assert opened.tag_v2[262] == 0  # type: ignore[attr-defined]
    np.testing.assert_allclose(whole(str(path), 1)[..., 0], 1 - DEEP / 65535, atol=1e-6)


def test_exif_turns_deep_pictures_too(tmp_path: Path) -> None:
    turned = Image.fromarray(DEEP)
    exif = Image.Exif()
    for orientation, expected in (
        (3, DEEP[::-1, ::-1]),
        (6, np.rot90(DEEP, -1)),
        (8, np.rot90(DEEP)),
        (5, DEEP.T),
    ):
        exif[0x0112] = orientation
        turned.save(tmp_path / "a.png", exif=exif)
        seen = whole(str(tmp_path / "a.png"), 1)[..., 0]
        np.testing.assert_allclose(seen, expected / 65535, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "black", "white"),
    [
        ("int8", -128, 127),
        ("int16", -32768, 32767),
        ("uint16", 0, 65535),
        (">u2", 0, 65535),
        ("uint32", 0, 65535),
        ("int64", 0, 65535),
        ("float16", 0, 255),
        ("float32", 0, 255),
        ("float64", 0, 255),
    ],
)
def test_arrays_of_every_type(dtype: str, black: float, white: float) -> None:
    values = np.array([[0, 3, 100], [127, 9, 5]]).astype(dtype)
    expected = (values.astype(float) - black) / (white - black)
    seen = whole(Picture(values), 1)[..., 0]
    np.testing.assert_allclose(seen, expected, atol=1e-7)
    np.testing.assert_allclose(
        whole(Picture(values), 1, (3, 103))[..., 0],
        ((values.astype(float) - 3) / 100).clip(0, 1),
        atol=1e-7,
    )


def test_what_is_no_number_is_0() -> None:
    values = np.array([[np.nan, np.inf, -np.inf, 0.5, 1.0]])
    assert whole(Picture(values), 1)[0, :, 0].tolist() == [0, 0, 0, 0.5, 1]
    assert whole(Picture(values), 1, (-1, 1))[0, :, 0].tolist() == [0.5, 0.5, 0.5, 0.75, 1]
    huge = np.array([[-1e308, 0, 1e308]])
    assert whole(Picture(huge), 1)[0, :, 0].tolist() == [0, 0.5, 1]
    flat = np.full((2, 2), 7.0)
    assert np.isfinite(whole(Picture(flat), 1)).all()


def test_luminance_of_deep_colours() -> None:
    values = RNG.integers(0, 65536, (6, 7, 3), np.uint16)
    expected = values @ np.array([0.299, 0.587, 0.114]) / 65535
    np.testing.assert_allclose(whole(Picture(values), 1)[..., 0], expected, atol=1e-6)
    np.testing.assert_allclose(
        whole(Picture(values), 1, (9000, 30000))[..., 0],
        ((expected * 65535 - 9000) / 21000).clip(0, 1),
        atol=1e-6,
    )


def test_other_numbers_of_channels_have_to_be_the_file_s(tmp_path: Path) -> None:
    rgba = RNG.integers(0, 256, (9, 8, 4), np.uint8)
    many = RNG.integers(0, 4096, (9, 8, 11), np.uint16)
    Image.fromarray(rgba, "RGBA").save(tmp_path / "rgba.png")
    Image.fromarray(rgba[..., :2], "LA").save(tmp_path / "la.png")
    np.save(tmp_path / "many.npy", many)
    np.save(tmp_path / "four.npy", rgba)
    files = {"rgba.png": rgba, "la.png": rgba[..., :2], "four.npy": rgba}
    for name, values in files.items():
        seen = whole(str(tmp_path / name), values.shape[2])
        np.testing.assert_array_equal(seen, values)  # colours as they are, also where transparent
    np.testing.assert_allclose(whole(str(tmp_path / "many.npy"), 11), many / 65535, atol=1e-6)
    np.testing.assert_allclose(
        whole(str(tmp_path / "many.npy"), 11, (0, 4095)), many / 4095, atol=1e-6
    )
    for name, channels, says in (
        ("rgba.png", 11, "it has 4 channels, but the network takes 11"),
        ("la.png", 4, "it has 2 channels, but the network takes 4"),
        ("four.npy", 3, "it has 4 channels, but the network takes 3"),
        ("many.npy", 3, "it has 11 channels, but the network takes 3"),
        ("many.npy", 1, "it has 11 channels, but the network takes 1"),
    ):
        with pytest.raises(BadImageError) as error, borrowed_decoder() as decoder:
            decoder.read(Request(str(tmp_path / name), preprocess=preprocess_of(channels)))
        assert error.value.reason == says
    with pytest.raises(BadImageError, match="it has 1 channel, but the network takes 2"):
        whole(Picture(DEEP), 2)
    with pytest.raises(BadImageError, match="it has 1 channel, but the network takes 2"):
        whole(Picture(Image.fromarray(DEEP)), 2)


def test_planes_are_resized_one_by_one_and_alpha_weighs_nothing() -> None:
    """Pillow resizes RGBA weighed by its alpha; a network's channels are all alike."""
    rgba = RNG.integers(0, 256, (40, 50, 4), np.uint8)
    view, _ = center_view(pixels_of(Picture(Image.fromarray(rgba, "RGBA")), 4)[0], preprocess_of(4))
    for channel in range(4):
        plane = Image.fromarray(np.ascontiguousarray(rgba[..., channel]))
        expected = transforms.CenterCrop(12)(transforms.Resize(16)(plane))
        np.testing.assert_array_equal(view[..., channel], np.array(expected))


def test_mixed_batches_are_floats(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    Image.fromarray(DEEP).save(tmp_path / "b.png")
    paths = [str(tmp_path / name) for name in ("a.png", "b.png", "a.png", "a.png")]
    mixed, flat = stream_batches(paths, preprocess_of(3), 2, workers=2)
    assert (mixed.images.dtype, flat.images.dtype) == (np.float32, np.uint8)
    np.testing.assert_array_equal(mixed.images[0], flat.images[0] / np.float32(255))
    assert mixed.images.shape == (2, 12, 12, 3)
    (windowed,) = stream_batches(paths[:1], preprocess_of(3, (0, 255)), 2, workers=1)
    assert windowed.images.dtype == np.float32
    np.testing.assert_allclose(windowed.images[0], flat.images[0] / 255, atol=1 / 255)
    wide = Preprocess((9, 20), (12, 30), (0.5,), (0.5,))
    (batch,) = stream_batches([paths[0], "gone.png", Picture(DEEP)], wide, 3, workers=2)
    assert batch.images.shape == (2, 9, 20, 1)
    assert [one.path for one in batch.skipped] == ["gone.png"]
    (batch,) = stream_batches([Picture(np.zeros((9, 9, 5)))], wide, 3, workers=1)
    assert [(one.path, one.reason) for one in batch.skipped] == [
        ("image 0", "it has 5 channels, but the network takes 1")
    ]


def test_the_whole_picture_for_people(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    many = RNG.integers(0, 65536, (300, 8, 5), np.uint16)
    np.save(tmp_path / "b.npy", many)
    colours = read_whole(str(tmp_path / "a.png"), MAX_PIXELS)
    np.testing.assert_array_equal(np.array(colours), COLOUR)
    grey = read_whole(str(tmp_path / "a.png"), MAX_PIXELS, preprocess_of(1))
    expected = np.array(Image.fromarray(COLOUR).convert("L"))
    np.testing.assert_array_equal(np.array(grey), np.stack([expected] * 3, 2))
    first = read_whole(str(tmp_path / "b.npy"), MAX_PIXELS, preprocess_of(5))
    np.testing.assert_array_equal(np.array(first), np.rint(many[..., :3] / 257).astype(np.uint8))


def test_twelve_bits_a_pixel_become_1_at_4095(tmp_path: Path) -> None:
    values = (DEEP[:, :40] >> 4).astype(np.uint16)
    twelve_bit_tiff(tmp_path / "a.tif", values)
    np.testing.assert_allclose(whole(str(tmp_path / "a.tif"), 1)[..., 0], values / 4095, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.integers(0, 65535), min_size=1, max_size=9),
    low=st.floats(-1e5, 1e5),
    width=st.floats(1e-3, 1e5),
    inverted=st.booleans(),
)
def test_any_window(values: list[int], low: float, width: float, inverted: bool) -> None:
    row = np.array([values], np.uint16)
    seen = whole(Picture(row, inverted=inverted), 1, (low, low + width))[0, :, 0]
    expected = ((row[0].astype(np.float64) - low) / ((low + width) - low)).clip(0, 1)
    np.testing.assert_allclose(seen, 1 - expected if inverted else expected, atol=1e-6)
    assert seen.min() >= 0
    assert seen.max() <= 1


def test_filters_that_overshoot_stay_in_range() -> None:
    edge = np.zeros((40, 40), np.uint16)
    edge[:, 20:] = 65535
    preprocess = Preprocess(12, 16, (0.5,), (0.5,), "lanczos")
    view, _ = center_view(pixels_of(Picture(edge), 1)[0], preprocess)
    assert (view.min(), view.max()) == (0, 1)


def test_large_deep_pictures_take_little_memory_besides(tmp_path: Path) -> None:
    """NumPy's share: bands. Pillow's is one plane of floats, made for one channel at a time."""
    values = np.zeros((3000, 1000, 4), np.uint16)
    tracemalloc.start()
    view, _ = center_view(pixels_of(Picture(values), 4)[0], preprocess_of(4))
    assert tracemalloc.get_traced_memory()[1] < values.nbytes / 2
    tracemalloc.stop()
    assert view.shape == (12, 12, 4)


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 300)),
    to=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    edges=st.tuples(*[st.floats(0, 1)] * 4),
    filter_=st.sampled_from(list(RESAMPLING.values())),
)
def test_bands_are_resized_as_the_whole_is(
    size: tuple[int, int],
    to: tuple[int, int],
    edges: tuple[float, ...],
    filter_: Image.Resampling,
) -> None:
    values = np.random.default_rng(0).random(size[::-1], np.float32)
    plane, picture = FloatPlane(size, values.__getitem__), Image.fromarray(values)
    theirs = picture.resize(to, filter_)
    np.testing.assert_allclose(plane.resize(to, filter_), theirs, atol=1e-6)
    (left, right), (top, bottom) = sorted(edges[:2]), sorted(edges[2:])
    if right - left > 0.01 and bottom - top > 0.01:
        box = (left * size[0], top * size[1], right * size[0], bottom * size[1])
        theirs = picture.resize(to, filter_, box=box)
        np.testing.assert_allclose(plane.resize(to, filter_, box=box), theirs, atol=1e-6)


@pytest.mark.parametrize("window", ["auto", (0.0, 1.0)])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_picture_without_a_number_is_none(value: float, window: Window) -> None:
    values = np.full((5, 6), value, np.float32)
    with pytest.raises(BadImageError, match="all its values are NaN or infinite"):
        whole(Picture(values), 1, window)
    values[3, 2] = 0.5
    assert np.isfinite(whole(Picture(values), 1, window)).all()
