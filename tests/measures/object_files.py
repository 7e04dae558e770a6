"""A run of some images, files that say where their objects are, and what they say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lcam_cli.engine.backbone import Backbone
from lcam_cli.errors import LcamError
from lcam_cli.measures.object_files.boxes import Boxes
from lcam_cli.measures.object_files.masks import Masks
from lcam_cli.measures.object_files.read import Run, read_objects
from lcam_cli.measures.object_files.views import Views
from lcam_cli.measures.objects import Objects

WHOLE = (0.0, 0.0, 100.0, 80.0)
# In a view of x from 10 to 90 and all 80 rows, drawn as 20 × 20: a quarter of the size.
BOX, IN_VIEW = (30, 20, 50, 60), [5, 5, 10, 15]


@dataclass
class Pictures:
    """Pictures of 100 × 80, of which the network sees ``crop_box`` as 20 × 20 pixels."""

    names: Sequence[str]
    root: str = "/photos"
    size: tuple[int, int] = (100, 80)
    crop_box: tuple[float, float, float, float] = (10.0, 0.0, 90.0, 80.0)
    view_size: tuple[int, int] = (20, 20)
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
            self.view_size,
        )
        return self.source.in_views(views, names, torch.full((len(names),), explained))

    def boxes(self, explained: int = 0) -> list[list[list[float]]]:
        """The boxes of each image in its view."""
        return [some.tolist() for some in self.objects(explained).boxes]

    @property
    def lines(self) -> list[str]:
        assert self.source is not None
        return self.source.lines()


def coco(boxes: dict[str, list[Any]], **more: Any) -> dict[str, Any]:
    """A COCO file: of each image, boxes as x0, y0, x1, y1 and a category's number, if any."""
    images = [{"id": 7 + i, "file_name": name} for i, name in enumerate(boxes)]
    annotations = []
    for image, some in zip(images, boxes.values(), strict=True):
        for x0, y0, x1, y1, *category in some:
            one: dict[str, Any] = {"id": len(annotations), "image_id": image["id"]}
            one["bbox"] = [x0, y0, x1 - x0, y1 - y0]
            annotations.append(one | ({"category_id": category[0]} if category else {}))
    return {"images": images, "annotations": annotations} | more


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def voc(objects: str, size: str = "", root: str = "annotation") -> str:
    return f"<{root}><filename>%s</filename>{size}{objects}</{root}>"


def voc_object(x0: object, y0: object, x1: object, y1: object, name: str = "thing") -> str:
    return (
        f"<object><name>{name}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
    )


def refusal(pictures: Pictures, path: Path) -> LcamError:
    with pytest.raises(LcamError) as caught:
        pictures.read(boxes=path)
    assert "\n" not in caught.value.what
    assert caught.value.hint
    return caught.value
