"""``fit="pad"``: the whole image between black bars, by images whose pixels are known."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from lcam_cli.errors import BadImageError, LcamError
from lcam_cli.images.mask import nearest
from lcam_cli.images.pixels import FloatPlane, Pixels
from lcam_cli.images.preprocess import Preprocess, center_view, crop_box, training_view

PAD = Preprocess(32, 36, fit="pad")
GREY = (90, 120, 150)


def plain(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), GREY)


@pytest.mark.parametrize(
    ("size", "rows", "columns", "box"),
    [
        ((64, 64), (0, 32), (0, 32), (0, 0, 64, 64)),
        ((64, 32), (8, 24), (0, 32), (0, -16, 64, 48)),
        ((16, 64), (0, 32), (12, 20), (-24, 0, 40, 64)),
        ((8, 4), (8, 24), (0, 32), (0, -2, 8, 6)),  # small ones grow
    ],
)
def test_bars_and_box(
    size: tuple[int, int],
    rows: tuple[int, int],
    columns: tuple[int, int],
    box: tuple[float, float, float, float],
) -> None:
    view, found = center_view(plain(*size), PAD)
    expected = np.zeros((32, 32, 3), np.uint8)
    expected[slice(*rows), slice(*columns)] = GREY
    np.testing.assert_array_equal(view, expected)
    assert found == box == crop_box(size, PAD)


def test_the_picture_in_it_is_the_picture_resized() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 80, 3), np.uint8))
    view, box = center_view(picture, Preprocess((40, 32), 32, fit="pad"))
    small = np.asarray(picture.resize((32, 20), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(view[10:30], small)
    assert not view[:10].any()
    assert not view[30:].any()
    assert box == (0, -25, 80, 75)


def test_odd_remainders_lie_where_the_box_says() -> None:
    # 33 wide in 32 rows of 100: 100 × 33 becomes 32 × 11, with 10 rows above and 11 below, or so.
    view, (x0, y0, x1, y1) = center_view(plain(100, 33), PAD)
    seen = np.flatnonzero(view[:, 0].any(1))
    scale = 33 / len(seen)
    assert (x0, x1) == (0, 100)
    assert y0 == pytest.approx(-seen[0] * scale)
    assert y1 == pytest.approx(33 + (31 - seen[-1]) * scale)
    assert abs(seen[0] - (31 - seen[-1])) <= 1


def test_floats_of_one_channel_have_black_bars_too() -> None:
    plane = FloatPlane((20, 10), lambda rows: np.full((rows.stop - rows.start, 20), 0.7, "f4"))
    one = Preprocess(20, 24, (0.5,), (0.5,), fit="pad")
    view, _ = center_view(Pixels((20, 10), 1, (plane,)), one)
    assert view.dtype == np.float32
    np.testing.assert_allclose(view[5:15], 0.7, atol=1e-6)
    assert not view[:5].any()
    assert not view[15:].any()


def test_training_moves_as_far_as_a_crop_with_its_bars() -> None:
    tops = set()
    for seed in range(60):
        view = training_view(plain(72, 36), PAD, np.random.default_rng(seed), flip=True)
        assert view.shape == (32, 32, 3)
        seen = np.flatnonzero(view.any((1, 2)))
        # On a page of 36 × 36 the image is 18 high, from row 9; the view begins at 0 to 4.
        assert len(seen) == 18
        tops.add(int(seen[0]))
    assert tops == {5, 6, 7, 8, 9}
    fixed = Preprocess(32, 32, fit="pad")
    view = training_view(plain(72, 36), fixed, np.random.default_rng(0), flip=False)
    np.testing.assert_array_equal(view, center_view(plain(72, 36), fixed)[0])


def test_a_network_of_pictures_that_are_never_resized() -> None:
    never = Preprocess(32, 0, fit="pad")
    view, box = center_view(plain(20, 10), never)
    assert box == (-6, -11, 26, 21)
    assert (view[11:21, 6:26] == GREY).all()
    assert (view.any(2)).sum() == 200
    with pytest.raises(BadImageError, match=r"40×10 .* input of 32×32"):
        center_view(plain(40, 10), never)


def test_masks_are_black_where_the_bars_are() -> None:
    inside = nearest(np.ones((32, 64), bool), (0, -16, 64, 48), (64, 32), (32, 32))
    expected = np.zeros((32, 32), bool)
    expected[8:24] = True
    np.testing.assert_array_equal(inside, expected)


def test_files_say_so_and_older_versions_refuse_it() -> None:
    settings = PAD.to_json()
    assert settings["fit"] == "pad"
    assert Preprocess.from_json(settings) == PAD
    with pytest.raises(LcamError, match="setting fit is 'border'"):
        Preprocess.from_json({**settings, "fit": "border"})  # as 0.1.0 does "pad"
