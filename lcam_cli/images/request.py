"""What is asked of a reading process, and how question and answer travel over its pipes.

Questions are pickles, for they come from the program itself. Answers come from a process that has
handled a stranger's file: they are numbers, pixels and text of a checked length.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lcam_cli.errors import BadImageError
from lcam_cli.images.channels import pixels_of
from lcam_cli.images.picture import Picture, ReadOptions
from lcam_cli.images.pixels import Pixels
from lcam_cli.images.preprocess import CropBox, Preprocess, center_view, training_view
from lcam_cli.images.read import MAX_PIXELS, count_pictures, read_pixels
from lcam_cli.images.rgb import Levels


class View(NamedTuple):
    """What is shown of an image.

    Attributes:
        pixels: (H, W, C): uint8 of an image of 8 bits without a window, else float32 in [0, 1].
        crop_box: Where in the image that lies; zero for random views.
        size: Width and height of the upright original, in pixels.
    """

    pixels: NDArray[Any]
    crop_box: CropBox
    size: tuple[int, int]


# Kind; height and width, or a count or the text's length, and 0; channels, and whether they are
# floats; crop box; the original's width and height; whether there are levels, and they.
_HEADER = struct.Struct("<c3I?4d2I?4d")
_VIEW, _COUNT, _DONE, _UNREADABLE, _FAILED = b"v", b"c", b"d", b"u", b"f"
_LONGEST_TEXT = 1 << 16
_MOST_COUNTED = (1 << 32) - 1
_NO_PIXELS = (0, 0, False)
_NO_BOX = (0.0, 0.0, 0.0, 0.0)
_NO_SIZE = (0, 0)
_NO_LEVELS = (False, 0.0, 0.0, 0.0, 0.0)


_PLAIN = Preprocess()


@dataclass(frozen=True)
class Keep:
    """What a reading process keeps of the images it has read, for a :class:`PictureTask`.

    Attributes:
        number: The image's; numbers rise in the order in which images are needed again.
        oldest: Nobody asks for images of lower numbers any more.
        room: Bytes that a process may keep; an image for which there is no room is not kept.
    """

    number: int
    oldest: int = 0
    room: int = 0


@dataclass(frozen=True)
class Request:
    """One image, and which view of it.

    Attributes:
        path: The file.
        max_pixels: An image with more is refused.
        preprocess: What makes the view; None for the whole image with default settings.
        keep: How the process keeps the whole image after it has made the view; None to forget it.
        whole: The whole image, upright, in 8-bit RGB, with the channels and the window of
            ``preprocess``.
        seeds: For a random view (``training_view``): they seed its generator. None for the centre.
        flip: Random views are mirrored by chance.
        place: Where in the file, a tar, the image begins, and how long it is, in bytes.
        name: What the image is called, where it is in a tar.
        number: Of the image, in a file that holds several; None for one that does not.
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
    keep: Keep | None = None

    def view(self) -> View:
        """Read the image and make the view.

        Raises:
            BadImageError: The image cannot be read.
        """
        return self.view_with_levels()[0]

    def view_with_levels(
        self, also: Callable[[Pixels], None] = lambda pixels: None
    ) -> tuple[View, Levels | None]:
        """The same, with the image's values where they have more than 8 bits.

        Args:
            also: Is given the whole image.
        """
        pixels, levels = self.read()
        try:
            view = self._view_of(pixels)
            also(pixels)
        except MemoryError as error:
            raise BadImageError("not enough memory to resize it") from error
        return view, levels

    def read(self) -> tuple[Pixels, Levels | None]:
        """Return the whole image, with its values where they have more than 8 bits.

        Raises:
            BadImageError: The image cannot be read.
        """
        wanted = self.preprocess or _PLAIN
        return read_pixels(
            self.path,
            ReadOptions(self.max_pixels, window=wanted.window),
            channels=wanted.channels,
            place=self.place,
            name=self.name,
            number=self.number,
        )

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
    """How many images a file holds.

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


class PictureWork(Protocol):
    """Something that a reading process does with a whole image; it is sent there as a pickle."""

    def do(self, picture: Image.Image) -> str:
        """Do it.

        Args:
            picture: RGB, upright; it may be drawn on.

        Returns:
            What came of it, in at most some thousand characters.

        Raises:
            BadImageError: It cannot be done with this image.
        """
        ...


@dataclass(frozen=True)
class PictureTask:
    """Work on a whole image.

    Attributes:
        request: Which image, and how it is read where the process has not kept it.
        work: What is done.
        keep: Its number, if it may have been kept.
    """

    request: Request
    work: PictureWork
    keep: Keep | None = None

    @property
    def path(self) -> str:
        """The file."""
        return self.request.path

    @property
    def name(self) -> str:
        """What the image is called, where it is in a tar."""
        return self.request.name

    def read(self) -> Image.Image:
        """Return the whole image, RGB, upright.

        Raises:
            BadImageError: The image cannot be read.
        """
        return shown_whole(self.request.read()[0])

    def do(self, picture: Image.Image) -> str:
        """Do the work; see :class:`PictureWork`."""
        try:
            return self.work.do(picture)
        except MemoryError as error:
            raise BadImageError("not enough memory to draw on it") from error


def shown_whole(pixels: Pixels) -> Image.Image:
    """Return a whole image for people: its own Pillow image where that is RGB, else a new one.

    Raises:
        BadImageError: There is not enough memory.
    """
    plane = pixels.planes[0]
    if len(pixels.planes) == 1 and isinstance(plane, Image.Image):
        return plane.convert("RGB") if plane.mode != "RGB" else plane
    try:
        return Image.fromarray(pixels.as_rgb())
    except MemoryError as error:
        raise BadImageError("not enough memory to show it") from error


@dataclass(frozen=True)
class InMemoryPicture:
    """An image that the program has itself, what makes its view, and what it is called."""

    picture: Picture
    preprocess: Preprocess
    path: str

    def view(self) -> View:
        """Make the view.

        Raises:
            BadImageError: The image has another number of channels than the network.
        """
        pixels, _ = pixels_of(self.picture, self.preprocess.channels, self.preprocess.window)
        return View(*center_view(pixels, self.preprocess), pixels.size)


def answer(view: View, levels: Levels | None) -> tuple[bytes, memoryview]:
    """Return a view, and the levels of its image where they are known, as header and body."""
    body = np.ascontiguousarray(view.pixels).data.cast("B")
    sent = _NO_LEVELS if levels is None else (True, *levels)
    floats = view.pixels.dtype == np.float32
    header = _HEADER.pack(_VIEW, *view.pixels.shape, floats, *view.crop_box, *view.size, *sent)
    return header, body


def counted(count: int, note: str) -> tuple[bytes, bytes]:
    """Return how many images a file holds, and what to say about it, as header and body."""
    body = note.encode("utf-8", "backslashreplace")[:_LONGEST_TEXT]
    count = max(0, min(count, _MOST_COUNTED))
    said = (count, len(body), 0, False)
    return _HEADER.pack(_COUNT, *said, *_NO_BOX, *_NO_SIZE, *_NO_LEVELS), body


def done(result: str) -> tuple[bytes, bytes]:
    """Return what came of a task as header and body."""
    return _text(_DONE, result)


def unreadable(reason: str) -> tuple[bytes, bytes]:
    """Return the reason why an image cannot be read as header and body."""
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
        The view, and the image's levels where they were sent.

    Raises:
        BadImageError: The image cannot be read.
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
    """Read the answer to ``request``: how many images, and what to say about the file.

    Raises:
        BadImageError: The file cannot be read.
        RuntimeError: The process reports a mistake of ours, or answers what was not asked.
    """
    kind, count, length, *_ = _receive_header(receive)
    if kind == _COUNT and length <= _LONGEST_TEXT:
        return int(count), _receive_text(length, receive)
    raise _error_of(request, kind, count, receive)


def read_done(task: PictureTask, receive: Callable[[memoryview], None]) -> str:
    """Read what came of ``task``.

    Raises:
        BadImageError: The image cannot be read, or it cannot be done with this image.
        RuntimeError: The process reports a mistake of ours, or answers what was not asked.
    """
    kind, length, *_ = _receive_header(receive)
    if kind == _DONE and length <= _LONGEST_TEXT:
        return _receive_text(length, receive)
    raise _error_of(task, kind, length, receive)


def _receive_header(receive: Callable[[memoryview], None]) -> tuple[Any, ...]:
    header = bytearray(_HEADER.size)
    receive(memoryview(header))
    return _HEADER.unpack(header)


def _error_of(
    request: Request | CountRequest | PictureTask,
    kind: bytes,
    length: int,
    receive: Callable[[memoryview], None],
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
