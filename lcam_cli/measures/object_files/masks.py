"""Objects by masks: a PNG an image, read when its image is."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lcam_cli.errors import BadImageError
from lcam_cli.images.decoder import borrowed_decoder
from lcam_cli.images.mask import MaskRequest
from lcam_cli.images.read import MAX_PIXELS
from lcam_cli.maps.components import component_boxes
from lcam_cli.measures.object_files.known import KnownObjects
from lcam_cli.measures.object_files.left_out import OUTSIDE_VIEW, Findings
from lcam_cli.measures.object_files.views import Views
from lcam_cli.measures.objects import Objects

_SCALED = "a mask has another size than its image and is scaled"
_UNUSED = "a mask is not used, so its image is skipped"


class Masks(KnownObjects):
    """Knows the objects' masks of many images; see :class:`~lcam_cli.measures.objects.Objects`.

    Each is read by a reading process, as images are. An object's box is the box around a
    connected part of its mask in the network's view. Masks have no class: they count for every one.

    Args:
        folder: Where the masks lie.
        pictures: What the run's images are called.
        masks: The masks by the place of their image, as paths relative to the folder.
        max_pixels: A mask with more is not read.
    """

    def __init__(
        self,
        folder: Path,
        pictures: Sequence[str],
        masks: Mapping[int, str],
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self._folder = folder
        self._top = os.path.realpath(folder)
        self._masks = masks
        self._max_pixels = max_pixels
        self._place_of = {name: place for place, name in enumerate(pictures)}
        super().__init__(Findings(folder, pictures))
        # The last batch's, for it is asked for once for each class explained.
        self._last: tuple[tuple[str, ...], NDArray[np.bool_]] | None = None

    @property
    def identity(self) -> Any:
        """A digest of the masks' names, sizes and times of change, as a JSON value."""
        listed = []
        for place, name in sorted(self._masks.items()):
            try:
                status = (self._folder / name).stat()
            except OSError:
                continue
            listed.append([place, name, status.st_size, status.st_mtime_ns])
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()

    def in_views(self, views: Views, paths: Sequence[str], classes: Tensor) -> Objects:
        """Return the objects of images whose views are known; see :class:`KnownObjects`."""
        if self._last is None or self._last[0] != tuple(paths):
            self._last = tuple(paths), self._read(views, paths)
        inside = self._last[1]
        picture, boxes = component_boxes(inside)
        ends = np.searchsorted(picture, np.arange(1, len(inside)))
        device = classes.device
        return Objects(
            torch.from_numpy(inside).to(device),
            torch.from_numpy(inside.any((1, 2))).to(device),
            [torch.from_numpy(some).to(device) for some in np.split(boxes, ends)][: len(inside)],
        )

    def _read(self, views: Views, paths: Sequence[str]) -> NDArray[np.bool_]:
        """Which pixels of the views lie on objects, (B, H, W)."""
        inside = np.zeros((len(paths), *views.view_size), np.bool_)
        for drawn, path, box, size in zip(
            inside, paths, views.crop_boxes, views.sizes, strict=True
        ):
            place = self._place_of[path]
            if place in self._masks:
                x0, y0, x1, y1 = (float(edge) for edge in box)
                width, height = (int(one) for one in size)
                request = MaskRequest(
                    str(self._folder / self._masks[place]),
                    self._max_pixels,
                    crop_box=(x0, y0, x1, y1),
                    picture_size=(width, height),
                    view_size=views.view_size,
                )
                self._read_one(place, request, drawn)
        return inside

    def _read_one(self, place: int, request: MaskRequest, drawn: NDArray[np.bool_]) -> None:
        mask, note = self._masks[place], self._findings.add
        try:
            self._check_within(request.path)
            with borrowed_decoder() as decoder:
                view = decoder.read(request)
        except BadImageError as error:
            note(place, f"{_UNUSED} ({error.reason})", mask)
            return
        drawn[:] = view.pixels[..., 0] > 0
        if view.size != request.picture_size:
            (w, h), (width, height) = view.size, request.picture_size
            note(place, _SCALED, f"{mask}: {w} × {h}, the image {width} × {height}")
        if not drawn.any():
            note(place, OUTSIDE_VIEW)

    def _check_within(self, path: str) -> None:
        """Refuse a file that has become a link out of the folder since this was listed."""
        if os.path.commonpath([os.path.realpath(path), self._top]) != self._top:
            raise BadImageError("a link that leads outside the folder")
