"""Where the objects are in what the network sees, for measures that ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from lcam_cli.images.stream import Batch


@dataclass(frozen=True)
class Objects:
    """The objects of one class an image, as B images show them to the network.

    Attributes:
        inside: Which pixels lie on an object, bool (B, H, W).
        known: Of which images that is known, bool (B,): of the others nobody has said, or no
            object of the class lies in what the network sees.
        boxes: The boxes of each image's objects, B times float32 (n, 4): x0, y0, x1, y1 in
            pixels of what the network sees, clipped to it.
    """

    inside: Tensor
    known: Tensor
    boxes: Sequence[Tensor]

    def only(self, rows: Tensor) -> Objects:
        """The same of some of the images: (B,) bool, or their places, int64."""
        at = rows.nonzero().flatten() if rows.dtype == torch.bool else rows
        return Objects(self.inside[at], self.known[at], [self.boxes[i] for i in at.tolist()])


class ObjectSource(Protocol):
    """Who knows where the objects are: a file of boxes, a folder of masks."""

    @property
    def identity(self) -> Any:
        """What tells it from others, as a JSON value: other objects, other numbers."""
        ...

    def lines(self) -> Sequence[str]:
        """What was found of the images looked at so far, a line each."""
        ...

    def found(self) -> Any:
        """The same as a JSON value, for :meth:`take_over` of another process or a later run."""
        ...

    def take_over(self, found: Any) -> None:
        """Note what :meth:`found` of the same objects gave elsewhere, of the same images."""
        ...

    def of(self, read: Batch, paths: Sequence[str], classes: Tensor) -> Objects:
        """Return the objects of B images.

        Args:
            read: The images, as they were read.
            paths: What they are called, B of them.
            classes: The class of each whose objects are asked for, int64 (B,).
        """
        ...
