"""Where in their images the views lie that a network sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lcam_cli.images.stream import Batch


@dataclass(frozen=True)
class Views:
    """B views.

    Attributes:
        crop_boxes: float32 (B, 4): x0, y0, x1, y1 of each in pixels of the upright image.
        sizes: int32 (B, 2): width and height of the upright images.
        view_size: (H, W) of a view, in pixels.
    """

    crop_boxes: NDArray[np.float32]
    sizes: NDArray[np.int32]
    view_size: tuple[int, int]

    @classmethod
    def of(cls, read: Batch) -> Views:
        """The views of images as they were read."""
        return cls(read.crop_boxes, read.sizes, (read.images.shape[1], read.images.shape[2]))
