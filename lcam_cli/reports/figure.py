"""The paper's Fig. 3 and 4: images across, methods down, each map laid over its image.

Below each map stand some numbers of it, and beside each method their means over all images.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from lcam_cli.errors import LcamError
from lcam_cli.maps.display import DISPLAY_NOTE
from lcam_cli.maps.overlay import CropBox
from lcam_cli.maps.record import Floats
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

_GROUP_GAP = 36  # pixels
_LINE = 1.3 * SMALL_LETTERS


@dataclass(frozen=True)
class MethodRow:
    """One method's row of the figure, with some numbers in words: ``"AD(50) 12.34"``.

    Attributes:
        method: Its name.
        maps: V, float32 (n, C, H, W) in [0, 1].
        means: Lines below its name.
        numbers: Lines below each map, of every image and class: n times C times some.
    """

    method: str
    maps: Floats
    means: Sequence[str] = ()
    numbers: Sequence[Sequence[Sequence[str]]] = ()


@dataclass(frozen=True)
class Example:
    """One image of the figure and the classes that are explained on it.

    Attributes:
        picture: RGB, upright.
        crop_box: What the network sees of it.
        class_names: C names.
        confidences: Their scores on the whole image, in [0, 1].
    """

    picture: Image.Image
    crop_box: CropBox
    class_names: Sequence[str]
    confidences: Sequence[float]


def draw_figure(target: Path, examples: Sequence[Example], rows: Sequence[MethodRow]) -> None:
    """Draw and save the figure.

    The first row shows what the network sees of each image, under the class explained and its
    score. Where several classes are explained, the image stands above, and each has a column.

    Args:
        target: A PNG to write; an old one is replaced.
        examples: The images, n of them.
        rows: The methods.

    Raises:
        LcamError: There is nothing to draw, or the file cannot be written.
    """
    if not examples:
        raise LcamError("no image to draw a figure of", "check that the images can be read")
    save_figure(_Sheet(examples, rows).drawn(), target)


class _Sheet:
    """Where everything stands."""

    def __init__(self, examples: Sequence[Example], rows: Sequence[MethodRow]) -> None:
        self._examples = examples
        self._rows = rows
        widths = [font(letters).getlength(text) for row in rows for text, letters in _label_of(row)]
        self._left = round(max(widths, default=0)) + 3 * GAP
        lines = max((len(row.means) for row in rows), default=0)  # as many as below a map
        self._below = round(_LINE * lines)
        self._classes = len(examples[0].class_names)
        # A figure without methods shows images alone, as squares.
        H, W = rows[0].maps.shape[-2:] if rows else (1, 1)
        self._tile = tile_size(H, W)
        self._heads = 2 * round(1.3 * SMALL_LETTERS) + GAP

    def drawn(self) -> Image.Image:
        last, (wide, high) = len(self._examples) - 1, self._tile
        width = self._x(last, self._classes - 1) + wide + GAP
        height = self._y(len(self._rows))
        sheet = Image.new("RGB", (width, height), "white")
        draw = ImageDraw.Draw(sheet)
        for line, row in enumerate(self._rows):
            self._label(draw, line, row)
            for e, example in enumerate(self._examples):
                view = _view(example, self._tile)
                for c in range(self._classes):
                    tile = shown_over(view, row.maps[e, c], of_pixels=is_of_pixels(row.method))
                    sheet.paste(tile, (self._x(e, c), self._y(line)))
                    for k, text in enumerate(row.numbers[e][c] if row.numbers else ()):
                        y = self._y(line) + high + round(_LINE * (k + 0.5))
                        _write(draw, self._x(e, c) + wide // 2, y, shortened(text, wide))
        for e, example in enumerate(self._examples):
            first, after = self._x(e, 0), self._x(e, self._classes - 1) + wide
            top = GAP if self._classes > 1 else self._heads
            sheet.paste(_view(example, self._tile), ((first + after - wide) // 2, top))
            for c in range(self._classes):
                self._head(draw, e, c)
        return sheet

    def _x(self, example: int, column: int) -> int:
        step = self._tile[0] + GAP
        group = self._classes * step
        gap = _GROUP_GAP if self._classes > 1 else 0
        return self._left + example * (group + gap) + column * step

    def _y(self, line: int) -> int:
        high = self._tile[1]
        return self._heads + 2 * GAP + high + line * (high + self._below + GAP)

    def _label(self, draw: ImageDraw.ImageDraw, line: int, row: MethodRow) -> None:
        """Write a method's name, and its means, to the left of its maps, half-way down."""
        lines = _label_of(row)
        y = self._y(line) + (self._tile[1] - sum(1.3 * letters for _, letters in lines)) / 2
        for text, letters in lines:
            y += 1.3 * letters
            at = (self._left - 2 * GAP, round(y - 0.65 * letters))
            draw.text(at, text, fill="black", font=font(letters), anchor="rm")

    def _head(self, draw: ImageDraw.ImageDraw, e: int, c: int) -> None:
        """Write the class and its score above a column."""
        example = self._examples[e]
        wide, high = self._tile
        middle = self._x(e, c) + wide // 2
        top = GAP if self._classes == 1 else 2 * GAP + high
        name = shortened(printable(example.class_names[c]), wide)
        for k, text in enumerate((name, f"{example.confidences[c]:.1%}")):
            _write(draw, middle, top + round(_LINE * (k + 0.5)), text)


def _write(draw: ImageDraw.ImageDraw, middle: int, y: int, text: str) -> None:
    draw.text((middle, y), text, fill="black", font=font(SMALL_LETTERS), anchor="mm")


def _view(example: Example, size: tuple[int, int]) -> Image.Image:
    """What the network sees, from the image's own pixels, of that width and height."""
    x0, y0, x1, y1 = example.crop_box
    width, height = example.picture.size
    seen = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
    across, down = size[0] / (x1 - x0), size[1] / (y1 - y0)
    # Where the view goes beyond the image, it is black.
    left, top = round((seen[0] - x0) * across), round((seen[1] - y0) * down)
    right, bottom = round((seen[2] - x0) * across), round((seen[3] - y0) * down)
    inner = max(right - left, 1), max(bottom - top, 1)
    part = example.picture.resize(inner, Image.Resampling.LANCZOS, box=seen)
    if inner == size:
        return part
    view = Image.new("RGB", size)
    view.paste(part, (left, top))
    return view


def _label_of(row: MethodRow) -> list[tuple[str, int]]:
    """The lines that stand beside a method's maps, each with the height of its letters."""
    notes = textwrap.wrap(DISPLAY_NOTE, 24) if is_of_pixels(row.method) else []
    return [
        *((text, LETTERS) for text in textwrap.wrap(printable(row.method), 16) or [""]),
        *((text, SMALL_LETTERS) for text in (*row.means, *notes)),
    ]
