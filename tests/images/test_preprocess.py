from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import (
    LARGEST_SIDE,
    Preprocess,
    center_view,
    crop_box,
    training_view,
)

SMALL_GREY = Preprocess(8, 10, (0.5,), (0.5,))


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


def torchvision_view(picture: Image.Image, preprocess: Preprocess) -> np.ndarray:
    mode = transforms.InterpolationMode(preprocess.interpolation)
    resize = transforms.Resize(preprocess.resize, interpolation=mode)
    return np.array(transforms.CenterCrop(preprocess.image_size)(resize(picture)))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(
    "size", [(500, 375), (375, 500), (333, 333), (1, 1), (3, 7), (257, 255), (256, 999), (901, 31)]
)
def test_crop_is_byte_equal_to_torchvision(size: tuple[int, int], interpolation: str) -> None:
    preprocess = Preprocess(interpolation=interpolation)  # type: ignore[arg-type]
    view, _ = center_view(noise(*size), preprocess)
    np.testing.assert_array_equal(view, torchvision_view(noise(*size), preprocess))


@settings(max_examples=60, deadline=None)
@example(width=1, height=337, image_size=25, margin=3)
@given(
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    image_size=st.integers(1, 40),
    margin=st.integers(0, 9),
)
def test_crop_of_any_size(width: int, height: int, image_size: int, margin: int) -> None:
    preprocess = Preprocess(image_size=image_size, resize=image_size + margin)
    picture = noise(width, height)
    view, box = center_view(picture, preprocess)
    assert (view.shape, view.dtype) == ((image_size, image_size, 3), np.uint8)
    longest = preprocess.resize * max(width, height) // min(width, height)
    # Beyond that length only the part in view is resized, which rounds differently here and there.
    levels = 0 if longest <= LARGEST_SIDE else 1
    theirs = torchvision_view(picture, preprocess).astype(int)
    assert np.abs(view.astype(int) - theirs).max() <= levels
    x0, y0, x1, y1 = box
    assert -1e-6 <= x0 < x1 <= width + 1e-6
    assert -1e-6 <= y0 < y1 <= height + 1e-6
    # Along the shorter side the box is image_size / resize of it; along the longer one the same
    # number of pixels, up to the rounding of the resized length.
    short, long = sorted([(width, x0, x1), (height, y0, y1)])
    assert (short[2] - short[1]) / short[0] == pytest.approx(image_size / preprocess.resize)
    resized_long = int(preprocess.resize * long[0] / short[0])
    assert (long[2] - long[1]) / long[0] == pytest.approx(image_size / resized_long)


def covering(size: tuple[int, int], preprocess: Preprocess) -> tuple[int, int]:
    """Height and width that an image gets, in exact fractions."""
    (width, height), resize = size, preprocess.resize
    assert isinstance(resize, int)
    shorter = min(preprocess.height, preprocess.width)
    # The input times resize / shorter, in whole pixels.
    least = [side * resize // shorter for side in (preprocess.height, preprocess.width)]
    scale = max(Fraction(least[0], height), Fraction(least[1], width))
    return math.floor(height * scale), math.floor(width * scale)


@settings(max_examples=60, deadline=None)
@example(size=(320, 180), input_size=(18, 32), margin=0)  # an image of the input's shape
@example(size=(1, 200), input_size=(9, 16), margin=3)
@example(size=(200, 1), input_size=(9, 16), margin=3)
@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    input_size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    margin=st.integers(0, 9),
)
def test_rectangles_are_those_of_torchvision(
    size: tuple[int, int], input_size: tuple[int, int], margin: int
) -> None:
    preprocess = Preprocess(image_size=input_size, resize=min(input_size) + margin)
    picture = noise(*size)
    view, box = center_view(picture, preprocess)
    assert view.shape == (*input_size, 3)
    assert box == crop_box(size, preprocess)
    resized = covering(size, preprocess)
    if max(resized) <= LARGEST_SIDE:
        theirs = transforms.CenterCrop(input_size)(transforms.Resize(resized)(picture))
        np.testing.assert_array_equal(view, np.array(theirs))
    x0, y0, x1, y1 = box
    width, height = size
    assert -1e-6 <= x0 < x1 <= width + 1e-6
    assert -1e-6 <= y0 < y1 <= height + 1e-6
    # The share that is seen, and it is the middle up to half a resized pixel.
    assert (x1 - x0) / width == pytest.approx(input_size[1] / resized[1])
    assert (y1 - y0) / height == pytest.approx(input_size[0] / resized[0])
    assert abs((x0 + x1) / 2 - width / 2) <= 0.5 * width / resized[1] + 1e-6
    assert abs((y0 + y1) / 2 - height / 2) <= 0.5 * height / resized[0] + 1e-6
    # It covers the input, and does so with one of the sides that it should have.
    assert resized[0] >= input_size[0]
    assert resized[1] >= input_size[1]


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    input_size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    margins=st.tuples(st.integers(0, 9), st.integers(0, 9)),
)
def test_resized_exactly_or_not_at_all(
    size: tuple[int, int], input_size: tuple[int, int], margins: tuple[int, int]
) -> None:
    picture = noise(*size)
    exactly = (input_size[0] + margins[0], input_size[1] + margins[1])
    crop = transforms.CenterCrop(input_size)
    view, _ = center_view(picture, Preprocess(image_size=input_size, resize=exactly))
    np.testing.assert_array_equal(view, np.array(crop(transforms.Resize(exactly)(picture))))
    view, box = center_view(picture, Preprocess(image_size=input_size, resize=0))
    np.testing.assert_array_equal(view, np.array(crop(picture)))  # black around it
    x0, y0, x1, y1 = box
    assert (y1 - y0, x1 - x0) == input_size
    # What the box has of the image is what is seen, the rest is black.
    inside = np.zeros_like(view)
    left, top = max(0, int(x0)), max(0, int(y0))
    seen = np.array(picture)[top : int(y1), left : int(x1)]
    at = top - int(y0), left - int(x0)
    inside[at[0] : at[0] + seen.shape[0], at[1] : at[1] + seen.shape[1]] = seen
    np.testing.assert_array_equal(view, inside)


@pytest.mark.parametrize("interpolation", ["box", "hamming", "lanczos"])
def test_rectangles_by_other_filters(interpolation: str) -> None:
    preprocess = Preprocess((18, 32), (20, 40), interpolation=interpolation)  # type: ignore[arg-type]
    mode = transforms.InterpolationMode(interpolation)
    expected = transforms.Resize((20, 40), interpolation=mode)(noise(90, 70))
    view, _ = center_view(noise(90, 70), preprocess)
    np.testing.assert_array_equal(view, np.array(transforms.CenterCrop((18, 32))(expected)))


def test_half_a_pixel_left_over() -> None:
    picture = noise(13, 11)  # 13 - 8 and 11 - 8 are odd
    values = np.array(picture)
    for rounding, left, top in (("even", 2, 2), ("down", 2, 1)):
        preprocess = Preprocess(8, 0, crop_rounding=rounding)  # type: ignore[arg-type]
        view, box = center_view(picture, preprocess)
        np.testing.assert_array_equal(view, values[top : top + 8, left : left + 8])
        assert box == (left, top, left + 8, top + 8)
    # Where 3 rows are lacking, transformers has 2 above and torchvision 1.
    for rounding, above in (("even", 1), ("down", 2)):
        preprocess = Preprocess((14, 13), 0, crop_rounding=rounding)  # type: ignore[arg-type]
        view, box = center_view(picture, preprocess)
        np.testing.assert_array_equal(view[above : above + 11], values)
        assert not view[:above].any()
        assert not view[above + 11 :].any()
        assert box == (0, -above, 13, 14 - above)


def test_a_grey_picture_gives_one_channel() -> None:
    grey = noise(50, 40).convert("L")
    view, _ = center_view(grey, SMALL_GREY)
    coloured, _ = center_view(grey.convert("RGB"), SMALL_GREY)
    assert view.shape == (8, 8, 1)
    np.testing.assert_array_equal(np.repeat(view, 3, 2), coloured)


def test_crop_box_by_hand() -> None:
    _, box = center_view(noise(512, 1024), Preprocess())
    # 512 × 1024 becomes 256 × 512; the centre 224 starts at (16, 144); a resized pixel is 2 wide.
    assert box == (32.0, 288.0, 480.0, 736.0)


def test_crop_box_points_at_the_pixels_seen() -> None:
    # A white frame drawn just outside the box must not be seen, one just inside must.
    size, preprocess = (400, 300), Preprocess(image_size=30, resize=60, interpolation="nearest")
    _, (x0, y0, x1, y1) = center_view(noise(*size), preprocess)
    inside = Image.new("RGB", size, "white")
    inside.paste("black", (round(x0), round(y0), round(x1), round(y1)))
    assert center_view(inside, preprocess)[0].max() == 0
    smaller = Image.new("RGB", size, "white")
    smaller.paste("black", (round(x0) + 5, round(y0) + 5, round(x1) - 5, round(y1) - 5))
    view = center_view(smaller, preprocess)[0]
    assert min(view[0].min(), view[-1].min(), view[:, 0].min(), view[:, -1].min()) == 255


def test_squash_sees_the_whole_picture() -> None:
    picture = noise(90, 41)
    view, box = center_view(picture, Preprocess(image_size=32, resize=32, fit="squash"))
    expected = transforms.Resize((32, 32))(picture)
    np.testing.assert_array_equal(view, np.array(expected))
    assert box == (0.0, 0.0, 90.0, 41.0)


@pytest.mark.parametrize("input_size", [(224, 224), (180, 320), (320, 180)])
@pytest.mark.parametrize("size", [(20000, 3), (3, 20000), (50000, 1)])
def test_extreme_shapes_stay_small_in_memory(
    size: tuple[int, int], input_size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocess = Preprocess(input_size, resize=min(input_size) + 32)
    resize = Image.Image.resize

    def watched(picture: Image.Image, to: tuple[int, int], *rest: Any, **more: Any) -> Image.Image:
        assert max(to) <= 8192
        return resize(picture, to, *rest, **more)

    monkeypatch.setattr(Image.Image, "resize", watched)
    ramp = np.broadcast_to(np.linspace(0, 255, max(size)).astype(np.uint8), (min(size), max(size)))
    grey = ramp if size[0] > size[1] else ramp.T
    picture = Image.fromarray(np.ascontiguousarray(grey)).convert("RGB")
    view, (x0, y0, x1, y1) = center_view(picture, preprocess)
    trained = training_view(picture, preprocess, np.random.default_rng(0), flip=True)
    assert view.shape == trained.shape == (*input_size, 3)
    assert (x0, y0, x1, y1) == crop_box(size, preprocess)
    # The crop is the middle 224/256 of the image's shorter side, and as much of the other as
    # has the input's shape; there the ramp is mid-grey.
    scale = max(
        side / seen for side, seen in zip(covering(size, preprocess), size[::-1], strict=True)
    )
    seen = input_size[1] / scale, input_size[0] / scale
    assert (x1 - x0, y1 - y0) == pytest.approx(seen, rel=1e-2)
    assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((size[0] / 2, size[1] / 2), abs=0.02)
    assert np.abs(view.astype(int) - 127).max() <= 1


def test_the_small_path_agrees_with_the_full_one(monkeypatch: pytest.MonkeyPatch) -> None:
    picture, preprocess = noise(400, 20), Preprocess(image_size=30, resize=40)
    full, full_box = center_view(picture, preprocess)
    monkeypatch.setattr("lcam_cli.images.preprocess.LARGEST_SIDE", 100)
    part, part_box = center_view(picture, preprocess)
    assert part_box == pytest.approx(full_box)
    assert np.abs(full.astype(int) - part.astype(int)).max() <= 1  # rounding inside Pillow


def test_training_view_is_one_of_the_crops_of_the_resized_picture() -> None:
    preprocess = Preprocess(image_size=8, resize=10)
    picture = noise(50, 44)
    resized = np.array(transforms.Resize(10)(picture))
    crops = {
        resized[y : y + 8, x : x + 8][:, ::step].tobytes(): (x, y, step)
        for x in range(resized.shape[1] - 7)
        for y in range(resized.shape[0] - 7)
        for step in (1, -1)
    }
    rng = np.random.default_rng(3)
    seen = {crops[training_view(picture, preprocess, rng, flip=True).tobytes()] for _ in range(400)}
    assert seen == set(crops.values())  # every corner and both directions come up


def test_training_views_of_rectangles() -> None:
    picture = noise(50, 44)
    for preprocess, resized in (
        (Preprocess((6, 9), resize=8), np.array(transforms.Resize((10, 12))(picture))),
        (Preprocess((6, 9), resize=(7, 11)), np.array(transforms.Resize((7, 11))(picture))),
        (Preprocess((42, 48), resize=0), np.array(picture)),
        (Preprocess((6, 9), 8, fit="squash"), np.array(transforms.Resize((8, 12))(picture))),
    ):
        height, width = preprocess.height, preprocess.width
        crops = {
            resized[y : y + height, x : x + width].tobytes()
            for x in range(resized.shape[1] - width + 1)
            for y in range(resized.shape[0] - height + 1)
        }
        rng = np.random.default_rng(3)
        seen = {training_view(picture, preprocess, rng, False).tobytes() for _ in range(300)}
        assert seen == crops
    # Where it is smaller than the input it stays in the middle.
    small = Preprocess((50, 60), resize=0)
    view = training_view(picture, small, np.random.default_rng(0), False)
    np.testing.assert_array_equal(view, center_view(picture, small)[0])


def test_training_view_without_flip_and_squashed() -> None:
    squash = Preprocess(image_size=8, resize=8, fit="squash")
    whole = center_view(noise(20, 30), squash)[0]
    rng = np.random.default_rng(0)
    for _ in range(20):
        np.testing.assert_array_equal(training_view(noise(20, 30), squash, rng, False), whole)
    flips = [
        np.array_equal(training_view(noise(20, 30), squash, rng, True), whole[:, ::-1])
        for _ in range(200)
    ]
    assert 70 < sum(flips) < 130


def test_squashed_training_views_are_crops_of_the_squashed_picture() -> None:
    preprocess = Preprocess(image_size=8, resize=10, fit="squash")
    picture = noise(50, 20)
    squashed = np.array(transforms.Resize((10, 10))(picture))
    crops = {
        squashed[y : y + 8, x : x + 8][:, ::step].tobytes()
        for x in range(3)
        for y in range(3)
        for step in (1, -1)
    }
    rng = np.random.default_rng(3)
    seen = {training_view(picture, preprocess, rng, flip=True).tobytes() for _ in range(200)}
    assert seen == crops


def test_training_view_depends_on_the_generator_alone() -> None:
    views = [
        training_view(noise(60, 50), Preprocess(16, 32), np.random.default_rng([1, 2, k]), True)
        for k in (7, 7, 8)
    ]
    np.testing.assert_array_equal(views[0], views[1])
    assert not np.array_equal(views[0], views[2])


def test_json_round_trip() -> None:
    preprocess = Preprocess(299, 342, (0.5, 0.5, 0.5), (0.5, 0.5, 1), "bicubic", "squash")
    assert Preprocess.from_json(json.loads(json.dumps(preprocess.to_json()))) == preprocess


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": 0},
        {"image_size": 224.0},
        {"image_size": True, "resize": 1},
        {"image_size": 10**9, "resize": 10**9},
        {"resize": 223},
        {"resize": "256"},
        {"mean": [0.5, 0.5]},
        {"mean": 0.5},
        {"mean": "abc"},
        {"mean": [0.1, 0.2, 10**400]},
        {"std": [0.2, 0.2, 0]},
        {"std": [0.2, 0.2, math.nan]},
        {"std": [0.2, 0.2, math.inf]},
        {"std": [0.2, True, 0.2]},
        {"interpolation": "area"},
        {"interpolation": ["bilinear"]},
        {"fit": None},
        {"surprise": 1},
    ],
)
def test_settings_of_a_stranger_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(LcamError):
        Preprocess.from_json(Preprocess().to_json() | change)


@pytest.mark.parametrize("document", [None, [], "x", 3, {}, {"image_size": 224}])
def test_documents_of_another_shape_are_refused(document: object) -> None:
    with pytest.raises(LcamError):
        Preprocess.from_json(document)


@pytest.mark.real
def test_real_photographs_are_byte_equal_to_torchvision(real: Path) -> None:
    photos = sorted((real / "photos").glob("*.JPEG"))[::20]
    assert photos
    for photo in photos:
        with Image.open(photo) as file:
            picture = file.convert("RGB")
        view, _ = center_view(picture, Preprocess())
        np.testing.assert_array_equal(view, torchvision_view(picture, Preprocess()))
