"""PNG as another decoder reads it."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from lcam_cli.maps import png_encoder
from lcam_cli.maps.png_encoder import encode_png, encode_png_in_bands

sides = st.integers(1, 20)
shapes = st.tuples(sides, sides) | st.tuples(sides, sides, st.just(3))


@given(hnp.arrays(np.uint8, shapes))
def test_pillow_reads_what_was_encoded(pixels: NDArray[np.uint8]) -> None:
    with Image.open(io.BytesIO(encode_png(pixels))) as read:
        assert read.format == "PNG"
        assert read.mode == ("L" if pixels.ndim == 2 else "RGB")
        np.testing.assert_array_equal(np.asarray(read), pixels)


@given(hnp.arrays(np.uint8, shapes), st.integers(1, 8))
def test_pillow_reads_what_was_encoded_in_bands(pixels: NDArray[np.uint8], rows: int) -> None:
    bands = [pixels[top : top + rows] for top in range(0, len(pixels), rows)]
    encoded = b"".join(encode_png_in_bands(len(pixels), bands))
    with Image.open(io.BytesIO(encoded)) as read:
        np.testing.assert_array_equal(np.asarray(read), pixels)
    if len(bands) == 1:
        assert encoded == encode_png(pixels)


def test_without_isal_the_standard_library_compresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png_encoder, "deflate", zlib)
    test_pillow_reads_what_was_encoded()
    test_pillow_reads_what_was_encoded_in_bands()


def test_smooth_pictures_get_small() -> None:
    rising = np.add.outer(np.arange(200, dtype=np.uint8), np.zeros(300, np.uint8))
    assert len(encode_png(rising)) < rising.size / 50
