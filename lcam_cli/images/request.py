"""What is asked of a reading process, and how question and answer travel over its pipes.

Questions are pickles, for they come from the program itself. Answers come from a process that has
handled a stranger's file: they are numbers, pixels and text of a checked length.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lcam_cli.errors import BadImageError
from lcam_cli.images.preprocess import CropBox, Preprocess, center_view, training_view
from lcam_cli.images.read import MAX_PIXELS, read_with_levels
from lcam_cli.images.rgb import Levels, as_array

View = tuple[NDArray[np.uint8], CropBox]

# Kind; height and width, or the text's length and 0; crop box; whether there are levels, and they.
_HEADER = struct.Struct("<c2I4d?4d")
_VIEW, _UNREADABLE, _FAILED = b"v", b"u", b"f"
_LONGEST_TEXT = 1 << 16
_NO_BOX = (0.0, 0.0, 0.0, 0.0)
_NO_LEVELS = (False, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Request:
    """One picture, and which view of it.

    Attributes:
        path: The file.
        max_pixels: A picture with more is refused.
        preprocess: What makes the view; None for the whole picture, upright, in RGB.
        seeds: For a random view (``training_view``): they seed its generator. None for the centre.
        flip: Random views are mirrored by chance.
        place: Where in the file, a tar, the picture begins, and how long it is, in bytes.
        name: What the picture is called, where it is in a tar.
    """

    path: str
    max_pixels: int = MAX_PIXELS
    preprocess: Preprocess | None = None
    seeds: tuple[int, ...] | None = None
    flip: bool = False
    place: tuple[int, int] | None = None
    name: str = ""

    def view(self) -> View:
        """Read the picture and make the view: uint8 (H, W, 3) and its box, zero for random views.

        Raises:
            BadImageError: The picture cannot be read.
        """
        return self.view_with_levels()[0]

    def view_with_levels(self) -> tuple[View, Levels | None]:
        """The same, with the picture's values where they have more than 8 bits."""
        picture, levels = read_with_levels(
            self.path, max_pixels=self.max_pixels, place=self.place, name=self.name
        )
        return self._view_of(picture), levels

    def _view_of(self, picture: Image.Image) -> View:
        if self.preprocess is None:
            return as_array(picture), (0.0, 0.0, float(picture.width), float(picture.height))
        if self.seeds is None:
            return center_view(picture, self.preprocess)
        rng = np.random.default_rng(self.seeds)
        return training_view(picture, self.preprocess, rng, self.flip), _NO_BOX


@dataclass(frozen=True)
class InMemoryPicture:
    """A picture that the program has itself, in mode RGB, and what makes its view."""

    picture: Image.Image
    preprocess: Preprocess

    def view(self) -> View:
        """Make the view: uint8 (H, W, 3) and its box."""
        return center_view(self.picture, self.preprocess)


def answer(view: View, levels: Levels | None) -> tuple[bytes, memoryview]:
    """Return a view, and the levels of its picture where they are known, as header and body."""
    pixels, box = view
    body = np.ascontiguousarray(pixels).data.cast("B")
    sent = _NO_LEVELS if levels is None else (True, *levels)
    return _HEADER.pack(_VIEW, *pixels.shape[:2], *box, *sent), body


def unreadable(reason: str) -> tuple[bytes, bytes]:
    """Return the reason why a picture cannot be read as header and body."""
    return _text(_UNREADABLE, reason)


def failed(report: str) -> tuple[bytes, bytes]:
    """Return the report of a mistake of ours, not of the file's, as header and body."""
    return _text(_FAILED, report)


def _text(kind: bytes, text: str) -> tuple[bytes, bytes]:
    body = text.encode("utf-8", "backslashreplace")[-_LONGEST_TEXT:]
    return _HEADER.pack(kind, len(body), 0, *_NO_BOX, *_NO_LEVELS), body


def read_answer(
    request: Request, receive: Callable[[memoryview], None]
) -> tuple[View, Levels | None]:
    """Read the answer to ``request``.

    Args:
        request: What was asked: it bounds how much is read.
        receive: Fills a buffer from the pipe.

    Returns:
        The view, and the picture's levels where they were sent.

    Raises:
        BadImageError: The picture cannot be read.
        RuntimeError: The process reports a mistake of ours, or answers what was not asked.
    """
    header = bytearray(_HEADER.size)
    receive(memoryview(header))
    kind, height, width, *numbers = _HEADER.unpack(header)
    if kind == _VIEW:
        _check_size(request, height, width)
        pixels = np.empty((height, width, 3), np.uint8)
        receive(pixels.data.cast("B"))
        x0, y0, x1, y1, has_levels, *levels = numbers
        return (pixels, (x0, y0, x1, y1)), Levels(*levels) if has_levels else None
    if kind not in (_UNREADABLE, _FAILED) or height > _LONGEST_TEXT:
        raise RuntimeError(f"a reading process answered {bytes(header)!r}")
    body = bytearray(height)
    receive(memoryview(body))
    text = body.decode("utf-8", "replace")
    if kind == _UNREADABLE:
        raise BadImageError(text)
    raise RuntimeError(f"reading {request.path} failed in the reading process:\n{text}")


def _check_size(request: Request, height: int, width: int) -> None:
    if request.preprocess is None:
        fits = 0 < height * width <= request.max_pixels
    else:
        fits = height == width == request.preprocess.image_size
    if not fits:
        raise RuntimeError(f"a reading process answered with {width} × {height} pixels")
