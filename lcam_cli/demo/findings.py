"""What the demo's maps show: how often their peak lies on the object, and an overview of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from lcam_cli.maps.hdf5.reader import MapsFile
from lcam_cli.maps.names import output_name
from lcam_cli.maps.record import Map

_TILE = (256, 192)
_PER_CLASS = 6


def peak_rates(maps: Path, masks: Path) -> dict[str, float]:
    """Return, by class, the share of the pictures whose map peaks on the object.

    Args:
        maps: The maps file; each row's path is ``<class>/<picture>``.
        masks: The folder of the true masks, ``<class>/<picture's stem>.png``.
    """
    hits: dict[str, list[bool]] = {}
    with MapsFile(maps, trusted=True) as file:
        for batch in file.batches(64):
            for row in batch:
                path = Path(row.path)
                with Image.open(masks / path.with_suffix(".png")) as mask:
                    x, y = peak(row)
                    hits.setdefault(path.parent.name, []).append(bool(mask.getpixel((x, y))))
    return {name: sum(found) / len(found) for name, found in hits.items()}


def peak(row: Map) -> tuple[int, int]:
    """Return the pixel (x, y) of the picture where the map is highest."""
    height, width = row.saliency.shape
    line, column = np.unravel_index(int(row.saliency.argmax()), (height, width))
    x0, y0, x1, y1 = row.crop_box
    x = x0 + (column + 0.5) * (x1 - x0) / width
    y = y0 + (line + 0.5) * (y1 - y0) / height
    return int(x), int(y)


def draw_overview(maps: Path, overlays: Path, target: Path) -> None:
    """Draw a sheet of overlays, a row a class."""
    with MapsFile(maps, trusted=True) as file:
        rows = [(row.path, row.class_index) for batch in file.batches(64) for row in batch]
    by_class: dict[str, list[Path]] = {}
    for path, class_index in rows:
        drawn = overlays / output_name(path, class_index, "png")
        by_class.setdefault(Path(path).parent.name, []).append(drawn)
    width, height = _TILE
    sheet = Image.new("RGB", (_PER_CLASS * width, len(by_class) * height), "white")
    for line, drawn_of_class in enumerate(by_class.values()):
        for column, drawn in enumerate(drawn_of_class[:_PER_CLASS]):
            with Image.open(drawn) as picture:
                sheet.paste(picture.resize(_TILE), (column * width, line * height))
    sheet.save(target)
