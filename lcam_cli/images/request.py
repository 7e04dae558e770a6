"""What is asked of a reading process, and how question and answer travel over its pipes.

Questions are pickles, for they come from the program itself. Answers come from a process that has
handled a stranger's file: they are numbers, pixels and text of a checked length.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lcam_cli.errors import BadImageError
from lcam_cli.images.channels import pixels_of
from lcam_cli.images.picture import Picture, ReadOptions
from lcam_cli.images.pixels import Pixels
from lcam_cli.images.preprocess import CropBox, Preprocess, center_view, training_view
from lcam_cli.images.read import MAX_PIXELS, count_pictures, read_pixels
from lcam_cli.images.rgb import Levels


class View(NamedTuple):
    """What is shown of a picture.

    Attributes:
        pixels: (H, W, C): uint8 of a picture of 8 bits without a window, else float32 in [0, 1].
        crop_box: Where in the picture that lies; zero for random views.
        size: Width and height of the upright original, in pixels.
    """

    pixels: NDArray[Any]
    crop_box: CropBox
    size: tuple[int, int]


# Kind; height and width, or a count or the text's length, and 0; channels, and whether they are
# floats; crop box; the original's width and height; whether there are levels, and they.
_HEADER = struct.Struct("<c3I?4d2I?4d")
_VIEW, _COUNT, _UNREADABLE, _FAILED = b"v", b"c", b"u", b"f"
_LONGEST_TEXT = 1 << 16
_MOST_COUNTED = (1 << 32) - 1
_NO_PIXELS = (0, 0, False)
_NO_BOX = (0.0, 0.0, 0.0, 0.0)
_NO_SIZE = (0, 0)
_NO_LEVELS = (False, 0.0, 0.0, 0.0, 0.0)


_PLAIN = Preprocess()


@dataclass(frozen=True)
class Request:
    """One picture, and which view of it.

    Attributes:
        path: The file.
        max_pixels: A picture with more is refused.
        preprocess: What makes the view; None for the whole picture with default settings.
        whole: The whole picture, upright, in 8-bit RGB, with the channels and the window of
            ``preprocess``.
        seeds: For a random view (``training_view``): they seed its generator. None for the centre.
        flip: Random views are mirrored by chance.
        place: Where in the file, a tar, the picture begins, and how long it is, in bytes.
        name: What the picture is called, where it is in a tar.
        number: Of the picture, in a file that holds several; None for one that does not.
    """

    path: str
    max_pixels: int = MAX_PIXELS
    preprocess: Preprocess | None = None
    seeds: tuple[int, ...] | None = None
    flip: bool = False
    place: tuple[int, int] | None = None
    name: str = ""
    number: int | None = None
    whole: bool = False

    def view(self) -> View:
        """Read the picture and make the view.

        Raises:
            BadImageError: The picture cannot be read.
        """
        return self.view_with_levels()[0]

    def view_with_levels(self) -> tuple[View, Levels | None]:
        """The same, with the picture's values where they have more than 8 bits."""
        wanted = self.preprocess or _PLAIN
        pixels, levels = read_pixels(
            self.path,
            ReadOptions(self.max_pixels, window=wanted.window),
            channels=wanted.channels,
            place=self.place,
            name=self.name,
            number=self.number,
        )
        try:
            return self._view_of(pixels), levels
        except MemoryError as error:
            raise BadImageError("not enough memory to resize it") from error

    def _view_of(self, pixels: Pixels) -> View:
        size = pixels.size
        if self.preprocess is None or self.whole:
            return View(pixels.as_rgb(), (0.0, 0.0, float(size[0]), float(size[1])), size)
        if self.seeds is None:
            return View(*center_view(pixels, self.preprocess), size)
        rng = np.random.default_rng(self.seeds)
        return View(training_view(pixels, self.preprocess, rng, self.flip), _NO_BOX, size)

    @property
    def channels(self) -> int:
        """How many numbers a pixel of the answer has."""
        return 3 if self.preprocess is None or self.whole else self.preprocess.channels

    def expects(self, height: int, width: int, *, floats: bool) -> bool:
        """Whether an answer may have this many pixels, and be of floats."""
        if self.preprocess is None or self.whole:
            return 0 < height * width <= self.max_pixels and not floats
        return (height, width) == (self.preprocess.height, self.preprocess.width)


@dataclass(frozen=True)
class CountRequest:
    """How many pictures a file holds.

    Attributes:
        path: The file.
        place: Where in the file, a tar, that which holds them begins, and how long it is, in bytes.
        name: What that is called, where it is in a tar.
    """

    path: str
    place: tuple[int, int] | None = None
    name: str = ""

    def count(self) -> tuple[int, str]:
        """Count them; return also what to say about the file, if anything.

        Raises:
            BadImageError: The file cannot be read.
        """
        return count_pictures(self.path, place=self.place, name=self.name)


@dataclass(frozen=True)
class InMemoryPicture:
    """A picture that the program has itself, what makes its view, and what it is called."""

    picture: Picture
    preprocess: Preprocess
    path: str

    def view(self) -> View:
        """Make the view.

        Raises:
            BadImageError: The picture has another number of channels than the network.
        """
        pixels, _ = pixels_of(self.picture, self.preprocess.channels, self.preprocess.window)
        return View(*center_view(pixels, self.preprocess), pixels.size)


def answer(view: View, levels: Levels | None) -> tuple[bytes, memoryview]:
    """Return a view, and the levels of its picture where they are known, as header and body."""
    body = np.ascontiguousarray(view.pixels).data.cast("B")
    sent = _NO_LEVELS if levels is None else (True, *levels)
    floats = view.pixels.dtype == np.float32
    header = _HEADER.pack(_VIEW, *view.pixels.shape, floats, *view.crop_box, *view.size, *sent)
    return header, body


def counted(count: int, note: str) -> tuple[bytes, bytes]:
    """Return how many pictures a file holds, and what to say about it, as header and body."""
    body = note.encode("utf-8", "backslashreplace")[:_LONGEST_TEXT]
    count = max(0, min(count, _MOST_COUNTED))
    said = (count, len(body), 0, False)
    return _HEADER.pack(_COUNT, *said, *_NO_BOX, *_NO_SIZE, *_NO_LEVELS), body


def unreadable(reason: str) -> tuple[bytes, bytes]:
    """Return the reason why a picture cannot be read as header and body."""
    return _text(_UNREADABLE, reason)


def failed(report: str) -> tuple[bytes, bytes]:
    """Return the report of a mistake of ours, not of the file's, as header and body."""
    return _text(_FAILED, report)


def _text(kind: bytes, text: str) -> tuple[bytes, bytes]:
    body = text.encode("utf-8", "backslashreplace")[-_LONGEST_TEXT:]
    return _HEADER.pack(kind, len(body), *_NO_PIXELS, *_NO_BOX, *_NO_SIZE, *_NO_LEVELS), body


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
    kind, height, width, channels, floats, *numbers = _receive_header(receive)
    if kind == _VIEW:
        dtype = np.dtype(np.float32 if floats else np.uint8)
        expected = request.expects(height, width, floats=floats) and channels == request.channels
        if not expected:
            raise RuntimeError(
                f"a reading process answered with {width} × {height} × {channels} of {dtype}"
            )
        pixels = np.empty((height, width, channels), dtype)
        receive(pixels.data.cast("B"))
        x0, y0, x1, y1, original_width, original_height, has_levels, *levels = numbers
        view = View(pixels, (x0, y0, x1, y1), (original_width, original_height))
        return view, Levels(*levels) if has_levels else None
    raise _error_of(request, kind, height, receive)


def read_count(request: CountRequest, receive: Callable[[memoryview], None]) -> tuple[int, str]:
    """Read the answer to ``request``: how many pictures, and what to say about the file.

    Raises:
        BadImageError: The file cannot be read.
        RuntimeError: The process reports a mistake of ours, or answers what was not asked.
    """
    kind, count, length, *_ = _receive_header(receive)
    if kind == _COUNT and length <= _LONGEST_TEXT:
        return int(count), _receive_text(length, receive)
    raise _error_of(request, kind, count, receive)


def _receive_header(receive: Callable[[memoryview], None]) -> tuple[Any, ...]:
    header = bytearray(_HEADER.size)
    receive(memoryview(header))
    return _HEADER.unpack(header)


def _error_of(
    request: Request | CountRequest, kind: bytes, length: int, receive: Callable[[memoryview], None]
) -> Exception:
    if kind not in (_UNREADABLE, _FAILED) or length > _LONGEST_TEXT:
        return RuntimeError(f"a reading process answered {kind!r} with {length}")
    text = _receive_text(length, receive)
    if kind == _UNREADABLE:
        return BadImageError(text)
    return RuntimeError(f"reading {request.path} failed in the reading process:\n{text}")


def _receive_text(length: int, receive: Callable[[memoryview], None]) -> str:
    body = bytearray(length)
    receive(memoryview(body))
    return body.decode("utf-8", "replace")
