"""Work on whole images whose views were read, by the processes that have kept their pixels."""
# Paths stay strings, as in find.py.
# ruff: noqa: PTH100

from __future__ import annotations

import itertools
import os
import threading

from lcam_cli.images.decoder import Decoder, borrowed_again, borrowed_decoder
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.images.request import Keep, PictureTask, PictureWork, Request
from lcam_cli.working_folder import absolute

_ROOM = 1 << 28
"""Bytes that all reading processes together may keep: some hundred photographs for the screen."""

# Of all runs of this process, which share the reading processes.
_numbers = itertools.count()


class PictureTasks:
    """Which process keeps which image of a run, and what is done with it. Thread-safe.

    A reading process that has made a view keeps the image (:meth:`keep`, :meth:`note`) until
    work on it is asked for (:meth:`do`). Where it had no room for it, or has ended, the image is
    read again.

    Args:
        preprocess: Its window and its channels are those of the whole image.
        max_pixels: An image with more is refused.
        processes: How many share the memory for what is kept.
    """

    def __init__(self, preprocess: Preprocess, max_pixels: int, processes: int) -> None:
        self._preprocess = preprocess
        self._max_pixels = max_pixels
        self._room = _ROOM // processes
        self._kept: dict[str, tuple[Decoder, int]] = {}
        self._oldest = next(_numbers)
        self._lock = threading.Lock()

    def keep(self) -> Keep:
        """Say under which number the next image is kept; called in the order of the images."""
        with self._lock:
            return Keep(next(_numbers), self._oldest, self._room)

    def note(self, path: str, decoder: Decoder, keep: Keep) -> None:
        """Note which process has read an image."""
        with self._lock:
            self._kept[_key(path)] = decoder, keep.number

    def do(self, path: str, work: PictureWork) -> str:
        """Have a reading process do some work on a whole image, once; return what came of it.

        Raises:
            BadImageError: It cannot be read, or not be worked on.
        """
        with self._lock:
            decoder, number = self._kept.pop(_key(path), (None, 0))
            keep = Keep(number, self._oldest) if decoder else None
        request = Request(path, self._max_pixels, self._preprocess, whole=True)
        if decoder is not None:
            with borrowed_again(decoder) as same:
                if same is not None:
                    return same.do(PictureTask(request, work, keep))
        with borrowed_decoder() as other:
            return other.do(PictureTask(request, work))

    def first_of(self, paths: list[str]) -> int | None:
        """Return the lowest number of these images; None where none of them is kept."""
        with self._lock:
            numbers = [self._kept[key][1] for path in paths if (key := _key(path)) in self._kept]
        return min(numbers, default=None)

    def forget_before(self, number: int) -> None:
        """Let go of the images of lower numbers, which nobody will ask for."""
        with self._lock:
            self._oldest = max(self._oldest, number)
            early = [key for key, (_, kept) in self._kept.items() if kept < self._oldest]
            for key in early:
                del self._kept[key]


def _key(path: str) -> str:
    """Return one spelling of a path; where there are two after all, the image is read again."""
    return os.path.abspath(absolute(path))
