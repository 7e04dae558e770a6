"""An overview of the demo's maps."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from lcam_cli.maps.hdf5.reader import MapsFile
from lcam_cli.maps.names import output_name

_TILE = (256, 192)
_PER_CLASS = 6


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
