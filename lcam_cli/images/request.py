"""What is asked of a reading process, and how question and answer travel over its pipes.

Questions are pickles, for they come from the program itself. Answers come from a process that has
handled a stranger's file: they are numbers, pixels and text of a checked length.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lcam_cli.errors import BadImageError
from lcam_cli.images.preprocess import CropBox, Preprocess, center_view, training_view
from lcam_cli.images.read import MAX_PIXELS, read_with_levels
from lcam_cli.images.rgb import Levels, as_array


class View(NamedTuple):
    """What is shown of a picture.

    Attributes:
        pixels: uint8 (H, W, 3).
        crop_box: Where in the picture that lies; zero for random views.
        size: Width and height of the upright original, in pixels.
    """

    pixels: NDArray[np.uint8]
    crop_box: CropBox
    size: tuple[int, int]


# Kind; height and width, or the text's length and 0; crop box; the original's width and height;
# whether there are levels, and they.
_HEADER = struct.Struct("<c2I4d2I?4d")
_VIEW, _UNREADABLE, _FAILED = b"v", b"u", b"f"
_LONGEST_TEXT = 1 << 16
_NO_BOX = (0.0, 0.0, 0.0, 0.0)
_NO_SIZE = (0, 0)
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
        """Read the picture and make the view.

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
        size = picture.size
        if self.preprocess is None:
            return View(as_array(picture), (0.0, 0.0, float(size[0]), float(size[1])), size)
        if self.seeds is None:
            return View(*center_view(picture, self.preprocess), size)
        rng = np.random.default_rng(self.seeds)
        return View(training_view(picture, self.preprocess, rng, self.flip), _NO_BOX, size)

    @property
    def channels(self) -> int:
        """How many numbers a pixel of the answer has."""
        return 3

    def expects(self, height: int, width: int) -> bool:
        """Whether an answer may have this many pixels."""
        if self.preprocess is None:
            return 0 < height * width <= self.max_pixels
        return height == width == self.preprocess.image_size


@dataclass(frozen=True)
class InMemoryPicture:
    """A picture that the program has itself, in mode RGB, and what makes its view."""

    picture: Image.Image
    preprocess: Preprocess

    def view(self) -> View:
        """Make the view."""
        return View(*center_view(self.picture, self.preprocess), self.picture.size)


def answer(view: View, levels: Levels | None) -> tuple[bytes, memoryview]:
    """Return a view, and the levels of its picture where they are known, as header and body."""
    body = np.ascontiguousarray(view.pixels).data.cast("B")
    sent = _NO_LEVELS if levels is None else (True, *levels)
    return _HEADER.pack(_VIEW, *view.pixels.shape[:2], *view.crop_box, *view.size, *sent), body


def unreadable(reason: str) -> tuple[bytes, bytes]:
    """Return the reason why a picture cannot be read as header and body."""
    return _text(_UNREADABLE, reason)


def failed(report: str) -> tuple[bytes, bytes]:
    """Return the report of a mistake of ours, not of the file's, as header and body."""
    return _text(_FAILED, report)


def _text(kind: bytes, text: str) -> tuple[bytes, bytes]:
    body = text.encode("utf-8", "backslashreplace")[-_LONGEST_TEXT:]
    return _HEADER.pack(kind, len(body), 0, *_NO_BOX, *_NO_SIZE, *_NO_LEVELS), body


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
        if not request.expects(height, width):
            raise RuntimeError(f"a reading process answered with {width} × {height} pixels")
        pixels = np.empty((height, width, request.channels), np.uint8)
        receive(pixels.data.cast("B"))
        x0, y0, x1, y1, original_width, original_height, has_levels, *levels = numbers
        view = View(pixels, (x0, y0, x1, y1), (original_width, original_height))
        return view, Levels(*levels) if has_levels else None
    if kind not in (_UNREADABLE, _FAILED) or height > _LONGEST_TEXT:
        raise RuntimeError(f"a reading process answered {bytes(header)!r}")
    body = bytearray(height)
    receive(memoryview(body))
    text = body.decode("utf-8", "replace")
    if kind == _UNREADABLE:
        raise BadImageError(text)
    raise RuntimeError(f"reading {request.path} failed in the reading process:\n{text}")
