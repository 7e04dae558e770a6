"""A run of some pictures, and what a file says of their objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from lcam_cli.engine.backbone import Backbone
from lcam_cli.measures.object_files.boxes import Boxes
from lcam_cli.measures.object_files.masks import Masks
from lcam_cli.measures.object_files.read import Run, read_objects
from lcam_cli.measures.object_files.views import Views
from lcam_cli.measures.objects import Objects

WHOLE = (0.0, 0.0, 100.0, 80.0)


@dataclass
class Pictures:
    """Pictures of 100 × 80, of which the network sees ``crop_box`` as 20 × 20."""

    names: Sequence[str]
    root: str = "/photos"
    size: tuple[int, int] = (100, 80)
    crop_box: tuple[float, float, float, float] = (10.0, 0.0, 90.0, 80.0)
    backbone: Backbone | None = None
    warnings: list[str] = field(default_factory=list)
    source: Boxes | Masks | None = None

    def read(self, *, boxes: Path | None = None, masks: Path | None = None) -> Pictures:
        run = Run(self.names, self.root)
        self.source = read_objects(boxes, masks, run, self.backbone, self.warnings.append)
        return self

    def objects(self, explained: int = 0, names: Sequence[str] | None = None) -> Objects:
        assert self.source is not None
        names = self.names if names is None else names
        views = Views(
            np.tile(np.float32(self.crop_box), (len(names), 1)),
            np.full((len(names), 2), self.size, np.int32),
            20,
        )
        return self.source.in_views(views, names, torch.full((len(names),), explained))

    def boxes(self, explained: int = 0) -> list[list[list[float]]]:
        """The boxes of each picture in its view."""
        return [some.tolist() for some in self.objects(explained).boxes]

    @property
    def lines(self) -> list[str]:
        assert self.source is not None
        return self.source.lines()
