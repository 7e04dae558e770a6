"""Many images as a steady stream of batches, read by processes, in constant memory."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lcam_cli.errors import BadImageError
from lcam_cli.images.find import Skipped
from lcam_cli.images.ordered import Lend, in_order
from lcam_cli.images.picture import Picture
from lcam_cli.images.picture_tasks import PictureTasks
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.images.read import MAX_PIXELS
from lcam_cli.images.request import InMemoryPicture, Request, View


@dataclass
class Batch:
    """The readable ones of ``batch_size`` consecutive images; B of them, maybe 0.

    Attributes:
        indices: B positions in the list of paths.
        images: (B, H, W, C): uint8 where all are images of 8 bits and there is no window, else
            float32 in [0, 1].
        crop_boxes: float32 (B, 4): x0, y0, x1, y1 in pixels of the upright original.
        sizes: int32 (B, 2): width and height of the upright originals.
        skipped: The images of this batch that could not be read.
    """

    indices: list[int]
    images: NDArray[Any]
    crop_boxes: NDArray[np.float32]
    sizes: NDArray[np.int32]
    skipped: list[Skipped]

    def only(self, places: Sequence[int], skipped: Sequence[Skipped]) -> Batch:
        """The images at some places of this batch alone.

        Args:
            places: In 0 to B − 1.
            skipped: What the new batch says that it lacks.
        """
        at = np.array(places, np.int64)
        return Batch(
            [self.indices[place] for place in places],
            self.images[at],
            self.crop_boxes[at],
            self.sizes[at],
            list(skipped),
        )


def stream_batches(
    paths: Sequence[str | Picture],
    preprocess: Preprocess,
    batch_size: int,
    *,
    workers: int,
    start: int = 0,
    max_pixels: int = MAX_PIXELS,
    tasks: PictureTasks | None = None,
) -> Generator[Batch]:
    """Yield the centre views of ``paths[start:]``, files or images in memory, in order.

    Batch k holds ``paths[k * batch_size : (k + 1) * batch_size]`` less the unreadable ones, so
    that a resumed run makes the batches the interrupted one would have made. Closing the iterator
    early stops reading, at once or within a second.

    Each of the ``workers`` is a process: a decoder that crashes or hangs loses one image. With
    ``tasks`` it keeps the whole image for these.

    Raises:
        ValueError: ``start`` is no multiple of ``batch_size``, or ``batch_size`` or ``workers`` is
            below 1.
    """
    _check(batch_size, workers)
    if start < 0 or start % batch_size:
        raise ValueError(f"start={start} is not a multiple of batch_size={batch_size}")

    def wanted(index: int) -> Request | InMemoryPicture:
        picture = paths[index]
        if isinstance(picture, Picture):
            return InMemoryPicture(picture, preprocess, f"image {index}")
        keep = None if tasks is None else tasks.keep()
        return Request(picture, max_pixels, preprocess, keep=keep)

    order = range(start, len(paths))
    return _batches(order, wanted, preprocess, batch_size, workers, tasks)


def stream_training(
    paths: Sequence[str],
    preprocess: Preprocess,
    batch_size: int,
    *,
    order: Sequence[int],
    seed: int,
    epoch: int,
    flip: bool,
    workers: int,
    centre: bool = False,
    start_batch: int = 0,
    max_pixels: int = MAX_PIXELS,
) -> Generator[Batch]:
    """Yield views of ``paths[i] for i in order``, from batch ``start_batch`` on.

    Views are random crops, mirrored by chance with ``flip``; with ``centre``, the centre views that
    inference uses.

    An image's view depends on seed, epoch and its position in ``paths`` alone, never on the
    processes or on where the run was resumed. Crop boxes are zero.

    Raises:
        ValueError: ``batch_size`` or ``workers`` is below 1, or ``start_batch`` below 0.
    """
    _check(batch_size, workers)
    if start_batch < 0:
        raise ValueError(f"start_batch={start_batch} is below 0")

    def wanted(index: int) -> Request:
        if centre:
            return Request(paths[index], max_pixels, preprocess)
        return Request(paths[index], max_pixels, preprocess, (seed, epoch, index), flip)

    rest = (int(order[k]) for k in range(start_batch * batch_size, len(order)))
    return _batches(rest, wanted, preprocess, batch_size, workers)


def no_pictures(preprocess: Preprocess) -> Batch:
    """Return a batch of no images."""
    return _batch([], preprocess)


def _check(batch_size: int, workers: int) -> None:
    if batch_size < 1 or workers < 1:
        raise ValueError(f"batch_size={batch_size} and workers={workers} must be at least 1")


def _batches(
    order: Iterable[int],
    wanted: Callable[[int], Request | InMemoryPicture],
    preprocess: Preprocess,
    batch_size: int,
    workers: int,
    tasks: PictureTasks | None = None,
) -> Generator[Batch]:
    def read(index: int, lend: Lend) -> View | Skipped:
        request = wanted(index)
        try:
            if isinstance(request, InMemoryPicture):
                return request.view()
            with lend() as decoder:
                view = decoder.read(request)
            if tasks is not None and request.keep is not None:
                tasks.note(request.path, decoder, request.keep)
            return view
        except BadImageError as error:
            return Skipped(request.path, error.reason)

    ahead = 2 * batch_size + workers
    with contextlib.closing(in_order(order, read, workers, ahead)) as loaded:
        while group := list(itertools.islice(loaded, batch_size)):
            yield _batch(group, preprocess)


def _batch(group: Sequence[tuple[int, View | Skipped]], preprocess: Preprocess) -> Batch:
    read = [(index, loaded) for index, loaded in group if not isinstance(loaded, Skipped)]
    floats = preprocess.window != "auto" or any(view.pixels.dtype != np.uint8 for _, view in read)
    shape = (len(read), preprocess.height, preprocess.width, preprocess.channels)
    images: NDArray[Any] = np.empty(shape, np.float32 if floats else np.uint8)
    boxes = np.empty((len(read), 4), np.float32)
    sizes = np.empty((len(read), 2), np.int32)
    for k, (_, view) in enumerate(read):
        pixels, boxes[k], sizes[k] = view
        if floats and pixels.dtype == np.uint8:
            np.divide(pixels, 255, out=images[k], dtype=np.float32)
        else:
            images[k] = pixels
    skipped = [loaded for _, loaded in group if isinstance(loaded, Skipped)]
    return Batch([index for index, _ in read], images, boxes, sizes, skipped)
