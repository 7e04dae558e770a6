"""Objects by boxes: those of a file, as far as they lie in what the network sees."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lcam_cli.measures.object_files.box import NamedBox
from lcam_cli.measures.object_files.known import KnownObjects
from lcam_cli.measures.object_files.left_out import OUTSIDE_VIEW, Findings
from lcam_cli.measures.object_files.views import Views
from lcam_cli.measures.objects import Objects

ANY_CLASS = -1
"""The class of boxes that count for every class explained."""

_OTHER_SIZE = (
    "the file has another size for an image than the image itself, so the image is skipped"
)
_OUTSIDE = "a box is outside its image and is skipped"
_OTHER_CLASS = "no box has the explained class, so the image is skipped"

_FARTHEST = float(np.finfo(np.float32).max)
"""Further out than any image reaches: a file may say more than a float32 holds."""

_Floats = NDArray[np.float32]


class Boxes(KnownObjects):
    """Knows the objects' boxes of many images; see :class:`~lcam_cli.measures.objects.Objects`.

    16 bytes a box and class, and some bytes an image, are all that is kept.

    Args:
        source: The file, for messages.
        pictures: What the run's images are called, N of them.
        boxes: Boxes by the place of their image.
        classes: The classifier's class of each label of a box, ``ANY_CLASS`` where it has none.
    """

    def __init__(
        self,
        source: object,
        pictures: Sequence[str],
        boxes: Mapping[int, Sequence[NamedBox]],
        classes: Mapping[str, int],
    ) -> None:
        self._place_of = {name: place for place, name in enumerate(pictures)}
        super().__init__(Findings(source, pictures))
        counts = [len(boxes.get(place, ())) for place in range(len(pictures))]
        in_order = [box for place in range(len(pictures)) for box in boxes.get(place, ())]
        self._first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        edges = np.array([box.edges for box in in_order], np.float64).reshape(-1, 4)
        self._edges = edges.clip(-_FARTHEST, _FARTHEST).astype(np.float32)
        self._classes = np.array([classes[box.label] for box in in_order], np.int32)
        self._sizes = np.array([box.size or (0, 0) for box in in_order], np.int32).reshape(-1, 2)

    @property
    def identity(self) -> Any:
        """A digest of the boxes of the run's images, as a JSON value."""
        parts = (self._first, self._edges, self._classes, self._sizes)
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()

    def in_views(self, views: Views, paths: Sequence[str], classes: Tensor) -> Objects:
        """Return the objects of images whose views are known; see :class:`KnownObjects`."""
        places = zip(views.crop_boxes, views.sizes, classes.tolist(), strict=True)
        found = [
            self._in_view(self._place_of[path], crop_box, size, explained, views.view_size)
            for path, (crop_box, size, explained) in zip(paths, places, strict=True)
        ]
        inside = np.zeros((len(found), *views.view_size), np.bool_)
        for drawn, boxes in zip(inside, found, strict=True):
            for box in boxes:
                _draw(drawn, box)
        device = classes.device
        return Objects(
            torch.from_numpy(inside).to(device),
            torch.tensor([len(boxes) > 0 for boxes in found], device=device),
            [torch.from_numpy(boxes).to(device) for boxes in found],
        )

    def _in_view(
        self,
        place: int,
        crop_box: _Floats,
        size: NDArray[np.int32],
        explained: int,
        view_size: tuple[int, int],
    ) -> _Floats:
        """The boxes of an image's objects of a class, (n, 4), in pixels of the view."""
        mine = slice(self._first[place], self._first[place + 1])
        edges, note = self._edges[mine], self._findings.add
        none = np.zeros((0, 4), np.float32)
        if not len(edges):
            return none
        width, height = (int(one) for one in size)
        said = self._sizes[mine]
        if (other := said.any(1) & (said != size).any(1)).any():
            given = tuple(map(int, said[other][0]))
            turned = ", turned on its side" if given == (height, width) else ""
            words = (
                f"{given[0]} × {given[1]} in the file, but the image is {width} × {height}{turned}"
            )
            note(place, _OTHER_SIZE, words)
            return none
        x0, y0, x1, y1 = edges.T
        if (outside := (x1 <= 0) | (y1 <= 0) | (x0 >= width) | (y0 >= height)).any():
            words = " ".join(f"{edge:g}" for edge in edges[outside][0])
            note(place, _OUTSIDE, f"{words} in {width} × {height}")
        meant = np.isin(self._classes[mine], (ANY_CLASS, explained))
        if not meant.any():
            note(place, _OTHER_CLASS)
            return none
        edges = edges[meant & ~outside].clip(0, (width, height, width, height))
        corner, extent = crop_box[[0, 1, 0, 1]], crop_box[2:] - crop_box[:2]
        H, W = view_size
        across_and_down = np.array([W, H, W, H], np.float32)
        in_view = (edges - corner) * (across_and_down / extent[[0, 1, 0, 1]])
        in_view = in_view.clip(0, across_and_down)
        in_view = in_view[(in_view[:, 2] > in_view[:, 0]) & (in_view[:, 3] > in_view[:, 1])]
        if len(edges) and not len(in_view):
            note(place, OUTSIDE_VIEW)
        return np.asarray(in_view, np.float32)


def _draw(inside: NDArray[np.bool_], box: _Floats) -> None:
    """Mark the pixels whose centre lies in a box; of a smaller one, the pixel at its centre."""
    x0, y0, x1, y1 = (float(edge) for edge in box)
    inside[_pixels(y0, y1), _pixels(x0, x1)] = True


def _pixels(begin: float, end: float) -> slice:
    start, stop = math.ceil(begin - 0.5), math.ceil(end - 0.5)
    if start < stop:
        return slice(start, stop)
    at = int((begin + end) / 2)
    return slice(at, at + 1)
