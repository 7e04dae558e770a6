"""What a reading process answers is checked: it has handled a stranger's file."""

from __future__ import annotations

import contextlib
import tracemalloc

import numpy as np
import pytest

from lcam_cli.errors import BadImageError
from lcam_cli.images.mask import MaskRequest
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.images.request import _HEADER, Request, View, answer, read_answer

BOX, SIZE = (0.0, 0.0, 1.0, 1.0), (20, 10)
WIDE = Preprocess((6, 8), 8, (0.5, 0.5), (0.5, 0.5))


def given(request: Request, message: bytes) -> View:
    rest = memoryview(message)

    def receive(buffer: memoryview) -> None:
        nonlocal rest
        if len(rest) < len(buffer):
            raise EOFError
        buffer[:] = rest[: len(buffer)]
        rest = rest[len(buffer) :]

    view, _ = read_answer(request, receive)
    return view


def message(pixels: np.ndarray) -> bytes:
    header, body = answer(View(pixels, BOX, SIZE), None)
    return header + bytes(body)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_views_of_both_types(dtype: type) -> None:
    pixels = np.arange(6 * 8 * 2).reshape(6, 8, 2).astype(dtype)
    view = given(Request("a", preprocess=WIDE), message(pixels))
    np.testing.assert_array_equal(view.pixels, pixels)
    assert (view.pixels.dtype, view.crop_box, view.size) == (dtype, BOX, SIZE)


@pytest.mark.parametrize(
    ("request_", "shape", "dtype"),
    [
        (Request("a", preprocess=WIDE), (8, 6, 2), np.uint8),  # on its side
        (Request("a", preprocess=WIDE), (6, 8, 3), np.float32),
        (Request("a", preprocess=WIDE), (6, 8, 1), np.uint8),
        (Request("a", preprocess=WIDE), (60, 80, 2), np.float32),
        (Request("a", preprocess=WIDE, max_pixels=99, whole=True), (10, 10, 3), np.uint8),
        (Request("a", preprocess=WIDE, whole=True), (6, 8, 2), np.uint8),
        (Request("a", preprocess=WIDE, whole=True), (6, 8, 3), np.float32),
        (Request("a"), (6, 8, 3), np.float32),
        (MaskRequest("a", view_size=(6, 8)), (6, 8, 1), np.float32),
        (MaskRequest("a", view_size=(6, 8)), (8, 6, 1), np.uint8),
        (MaskRequest("a", view_size=(6, 8)), (6, 8, 3), np.uint8),
    ],
)
def test_what_was_not_asked_for_is_refused(
    request_: Request, shape: tuple[int, ...], dtype: type
) -> None:
    with pytest.raises(RuntimeError, match="a reading process answered with"):
        given(request_, message(np.zeros(shape, dtype)))


def test_no_memory_is_taken_for_what_is_claimed() -> None:
    tracemalloc.start()
    for request in (Request("a", preprocess=WIDE), Request("a"), MaskRequest("a")):
        for kind in (b"v", b"u", b"f", b"c", b"?"):
            header = _HEADER.pack(kind, *[2**32 - 1] * 3, True, *BOX, *SIZE, *[False, 0, 0, 0, 0])
            with pytest.raises(RuntimeError, match="a reading process answered"):
                given(request, header + bytes(100))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_random_answers_are_refused_or_read() -> None:
    rng = np.random.default_rng(0)
    good = message(np.zeros((6, 8, 2), np.float32))
    for _ in range(500):
        damaged = bytearray(good)
        for at in rng.integers(0, _HEADER.size, 3):
            damaged[at] = rng.integers(256)
        with contextlib.suppress(RuntimeError, EOFError, BadImageError):
            assert given(Request("a", preprocess=WIDE), bytes(damaged)).pixels.shape == (6, 8, 2)
