"""What a reading process keeps of images after it has made their views: the pixels, for later.

An overlay is drawn on the image whose view the network saw a moment ago: it is not read twice.
"""

from __future__ import annotations

from PIL import Image

from lcam_cli.images.pixels import Pixels
from lcam_cli.images.request import Keep, shown_whole

_BYTES_A_PIXEL = 4  # as Pillow stores RGB


class KeptPixels:
    """Pictures by their numbers, in bounded memory: what has no room is read again by its task."""

    def __init__(self) -> None:
        self._pictures: dict[int, Image.Image] = {}
        self._bytes = 0

    def add(self, keep: Keep | None, pixels: Pixels) -> None:
        """Keep an image, if that is asked for and there is room; forget what nobody wants."""
        if keep is None:
            return
        self._forget(keep.oldest)
        # Grey is counted as the colours it becomes when it is drawn on.
        size = _size(*pixels.size)
        if self._bytes + size > keep.room or keep.number in self._pictures:
            return
        self._pictures[keep.number] = shown_whole(pixels)
        self._bytes += size

    def take(self, keep: Keep | None) -> Image.Image | None:
        """Return an image, RGB, which is kept no longer; None where it was not."""
        if keep is None:
            return None
        self._forget(keep.oldest)
        return self._remove(keep.number)

    def _forget(self, oldest: int) -> None:
        for number in [number for number in self._pictures if number < oldest]:
            self._remove(number)

    def _remove(self, number: int) -> Image.Image | None:
        picture = self._pictures.pop(number, None)
        if picture is not None:
            self._bytes -= _size(*picture.size)
        return picture


def _size(width: int, height: int) -> int:
    return _BYTES_A_PIXEL * width * height
