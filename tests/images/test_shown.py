"""What the network sees, as RGB."""

import numpy as np
import pytest

from lcam_cli.images.shown import as_rgb

GREYS = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def test_three_channels_of_8_bits_stay_the_same_array() -> None:
    images = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    assert as_rgb(images) is images


@pytest.mark.parametrize(
    ("channels", "of"), [(1, (0, 0, 0)), (2, (0, 1, None)), (3, (0, 1, 2)), (4, (0, 1, 2))]
)
def test_other_numbers_of_channels(channels: int, of: tuple[int | None, ...]) -> None:
    images = GREYS[..., :channels]
    rgb = as_rgb(images)
    assert rgb.dtype == np.uint8
    assert rgb.shape == (2, 3, 3)
    for shown, channel in enumerate(of):
        expected = 0 if channel is None else GREYS[..., channel]
        np.testing.assert_array_equal(rgb[..., shown], expected)


def test_floats_are_rounded_and_clipped() -> None:
    images = np.array([[-0.1], [0.0], [1 / 255], [0.5], [1.0], [1.5]], np.float32)
    assert as_rgb(images)[:, 0].tolist() == [0, 0, 1, 128, 255, 255]


def test_batches() -> None:
    assert as_rgb(np.zeros((5, 4, 3, 11), np.float32)).shape == (5, 4, 3, 3)
