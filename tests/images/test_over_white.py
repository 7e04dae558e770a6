"""Transparency of more than 8 bits is laid over white."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from lcam_cli.images.heif import _of_more_than_8_bits
from lcam_cli.images.rgb import over_white


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 100 * 0.25 + 1000 * 0.75),
        ({"is_associated": True}, 100 + 1000 * 0.75),
        ({"is_inverted": True}, 100 * 0.25),
    ],
)
def test_a_pixel_of_a_quarter_opacity(options: dict[str, bool], expected: float) -> None:
    values = np.full((200, 2, 4), 100, np.uint16)  # more than one band
    values[..., 3] = 250
    over = over_white(values, 1000, **options)
    assert over.dtype == np.uint16
    assert over.shape == (200, 2, 3)
    assert (over == expected).all()


def test_colours_of_a_heic_may_be_multiplied_by_their_opacity() -> None:
    values = np.array([[[100, 100, 100, 256]]], np.uint16)
    plain = _of_more_than_8_bits(values, 1023, "RGBA").pixels
    multiplied = _of_more_than_8_bits(values, 1023, "RGBa").pixels
    assert np.asarray(plain).max() == round(100 * 256 / 1023 + 767)
    assert np.asarray(multiplied).max() == 100 + 767


def test_a_large_picture_takes_little_more_than_itself() -> None:
    values = np.zeros((4000, 500, 4), np.uint16)  # 16 MB
    tracemalloc.start()
    over = over_white(values, 65535)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < over.nbytes + values.nbytes / 2
