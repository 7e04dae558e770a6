"""An image between its file and the network: of 8 bits, or of floats in [0, 1].

Pillow has images of 8 bits and, as mode F, one channel of floats. It resizes both with the same
antialiased filters, so an image is one Pillow image or several, which go the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lcam_cli.images.shown import in_8_bits

BAND = 128
"""Rows: a large image is converted in bands, for which a few bytes a pixel suffice."""

_SMALL = 1 << 20
"""Pixels: an image of fewer floats is one band, which is quicker and still little memory."""

_RGB = 3

Box = tuple[float, float, float, float]


class FloatPlane:
    """A channel of floats in [0, 1] that is made when it is asked for, a band of rows at a time.

    No floats of the image's size are in memory where it is made narrower: that is done first,
    band by band. Filters work on width and height apart, so the numbers are those of the whole.

    Args:
        size: Width and height, in pixels.
        rows: Gives some rows, (rows, W).
    """

    def __init__(self, size: tuple[int, int], rows: Callable[[slice], NDArray[np.float32]]) -> None:
        self.size = size
        self._rows = rows

    def bands(self) -> Iterator[tuple[int, Image.Image]]:
        """Yield the bands as images of mode F, and where each begins."""
        height = self.size[1]
        rows = self._rows_of_band()
        for top in range(0, height, rows):
            yield top, Image.fromarray(self._rows(slice(top, min(top + rows, height))))

    def resize(
        self, size: tuple[int, int], resample: Image.Resampling, box: Box | None = None
    ) -> Image.Image:
        """Return it resized, as Pillow's ``resize`` does."""
        (width, height), (left, top, right, bottom) = self.size, box or (0, 0, *self.size)
        if size[0] >= width or height <= self._rows_of_band():
            return self._joined().resize(size, resample, box=box)

        def narrowed(band: Image.Image) -> Image.Image:
            edges = (left, 0, right, band.height)
            return band.resize((size[0], band.height), resample, box=edges)

        narrow = _joined(((at, narrowed(band)) for at, band in self.bands()), (size[0], height))
        return narrow.resize(size, resample, box=(0, top, size[0], bottom))

    def crop(self, box: tuple[int, int, int, int]) -> Image.Image:
        """Return a part, as Pillow's ``crop`` does."""
        return self._joined().crop(box)

    def _rows_of_band(self) -> int:
        return max(BAND, _SMALL // self.size[0])

    def _joined(self) -> Image.Image:
        if self.size[1] <= self._rows_of_band():
            return next(self.bands())[1]
        return _joined(self.bands(), self.size)


def _joined(parts: Iterable[tuple[int, Image.Image]], size: tuple[int, int]) -> Image.Image:
    plane = Image.new("F", size, None)
    for top, part in parts:
        plane.paste(part, (0, top))
    return plane


Plane = Image.Image | FloatPlane


@dataclass(frozen=True)
class Pixels:
    """An upright image with the channels of the network.

    Attributes:
        size: Width and height, in pixels.
        channels: C.
        planes: Images of that size: one of mode RGB, where C is 3; or one of mode L, or of
            floats, for each channel; or one of these that is every channel alike.
    """

    size: tuple[int, int]
    channels: int
    planes: Sequence[Plane]

    @classmethod
    def of(cls, picture: Image.Image) -> Pixels:
        """Take a Pillow image of mode RGB or L as it is."""
        return cls(picture.size, len(picture.getbands()), (picture,))

    def changed(self, change: Callable[[Plane], Image.Image]) -> NDArray[Any]:
        """Return the image after a change of its size, as an array.

        Args:
            change: What is done to each of the planes.

        Returns:
            (H, W, C), uint8; or float32 in [0, 1], clipped where a filter leaves that range.
        """
        parts = [np.array(change(plane)) for plane in self.planes]
        view = parts[0] if len(parts) == 1 else np.stack(parts, axis=-1)
        if view.dtype != np.uint8:
            np.clip(view, 0, 1, out=view)
        if view.ndim == 2:
            view = view[..., None]
            if self.channels > 1:
                view = np.repeat(view, self.channels, axis=-1)
        return view

    def as_rgb(self) -> NDArray[np.uint8]:
        """Return the whole image for people, uint8 (H, W, 3), in little more than its memory.

        Channels become colours as in :func:`lcam_cli.images.shown.as_rgb`.
        """
        width, height = self.size
        rgb = np.empty((height, width, _RGB), np.uint8)
        count = len(self.planes)
        alone = count == 1
        if not alone:
            rgb[..., count:] = 0
        for channel in range(min(count, _RGB)):
            shown = rgb if alone else rgb[..., channel : channel + 1]
            plane = self.planes[channel]
            parts = plane.bands() if isinstance(plane, FloatPlane) else bands(plane)
            for top, band in parts:
                values = in_8_bits(np.asarray(band))
                shown[top : top + band.height] = values.reshape(*values.shape[:2], -1)
        return rgb


def bands(picture: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield bands of rows, and where each begins; an image of one band itself."""
    width, height = picture.size
    if height <= BAND:
        yield 0, picture
        return
    for top in range(0, height, BAND):
        yield top, picture.crop((0, top, width, min(top + BAND, height)))
