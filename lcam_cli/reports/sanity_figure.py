"""Maps on a network whose weights are drawn anew: stages down, and across a method's images.

As Fig. 2 of Adebayo et al. (NeurIPS 2018), turned by a right angle. Methods stand side by side, so
that a row shows what each of them makes of the same network.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from lcam_cli.engine.cascade import Stage
from lcam_cli.errors import LcamError
from lcam_cli.maps.display import PERCENTILE
from lcam_cli.measures.similarity import ShownPicture
from lcam_cli.methods.registry import is_of_pixels
from lcam_cli.reports.sheet import (
    GAP,
    LETTERS,
    SMALL_LETTERS,
    font,
    save_figure,
    shortened,
    shown_over,
    tile_size,
)
from lcam_cli.reports.text import printable

_COLUMNS = 16
_MOST_PICTURES = 6
_BETWEEN_METHODS = 36  # pixels
_LINE = round(1.5 * SMALL_LETTERS)
_HEAD = 2 * LETTERS


def pictures_drawn(methods: int) -> int:
    """How many images a method has: up to 6, fewer where 16 columns would not do for all."""
    return max(1, min(_MOST_PICTURES, _COLUMNS // max(methods, 1)))


def draw_sanity(
    target: Path,
    pictures: Sequence[ShownPicture],
    methods: Sequence[str],
    stages: Sequence[Stage],
    class_names: Sequence[str],
) -> None:
    """Draw and save the figure.

    Below the images stands the map of the network as trained, then one a stage, and last that of
    the second-best class. A tile is grey where there is no map.

    Args:
        target: A PNG to write; an old one is replaced.
        pictures: The images, the same for all methods.
        methods: Whose maps are drawn, by name.
        stages: In the order in which they were drawn anew.
        class_names: R names.

    Raises:
        LcamError: There is nothing to draw, or the file cannot be written.
    """
    if not pictures or not methods:
        raise LcamError("no image to draw a figure of", "check that the images can be read")
    labels = ["image", "as trained", *map(_down_to, stages), "other class"]
    lines = [line for label in labels for line in label.split("\n")]
    left = round(max(font(LETTERS).getlength(line) for line in lines)) + 3 * GAP
    wide, high = size = tile_size(*pictures[0].view.shape[:2])
    tops = [_HEAD + 2 * _LINE + GAP + row * (high + GAP) for row in range(len(labels) + 1)]
    band = len(pictures) * (wide + GAP)
    width = left + len(methods) * (band + _BETWEEN_METHODS)
    sheet = Image.new("RGB", (width, tops[-1]), "white")
    draw = ImageDraw.Draw(sheet)
    for i, label in enumerate(labels):
        draw.multiline_text(
            (left - 2 * GAP, tops[i] + high // 2),
            label,
            fill="black",
            font=font(LETTERS),
            anchor="rm",
            align="right",
        )
    for m, method in enumerate(methods):
        start = left + m * (band + _BETWEEN_METHODS)
        place = (start + (band - GAP) // 2, _HEAD // 2)
        title = printable(method)
        if is_of_pixels(method):
            title += f" (to its {PERCENTILE}th percentile)"
        draw.text(place, title, "black", font(LETTERS), anchor="mm")
        for p, picture in enumerate(pictures):
            x = start + p * (wide + GAP)
            name = shortened(printable(class_names[picture.class_index]), wide)
            for k, text in enumerate((name, f"{picture.confidence:.1%}")):
                middle = (x + wide // 2, _HEAD + k * _LINE + _LINE // 2)
                draw.text(middle, text, "black", font(SMALL_LETTERS), anchor="mm")
            view = Image.fromarray(picture.view).resize(size, Image.Resampling.LANCZOS)
            sheet.paste(view, (x, tops[0]))
            for i, V in enumerate(picture.maps[method], 1):
                sheet.paste(_tile(view, V, of_pixels=is_of_pixels(method)), (x, tops[i]))
    save_figure(sheet, target)


def _down_to(stage: Stage) -> str:
    """What stands beside the maps of a stage: where it ends, on lines of its own."""
    return "\n".join(["down to", *textwrap.wrap(printable(stage.last), 24)])


def _tile(view: Image.Image, V: np.ndarray, *, of_pixels: bool) -> Image.Image:
    if not np.isfinite(V).all():
        return Image.new("RGB", view.size, "lightgrey")
    return shown_over(view, V, of_pixels=of_pixels)
