"""The paper's Fig. 5 to 9: misclassified images, each above the maps of both its classes."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from lcam_cli.maps.record import Floats
from lcam_cli.measures.diagnose import ExplainedMistake
from lcam_cli.measures.error_groups import Group
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

PER_GROUP = 4
"""Pictures of each group in the figure."""

# Pixels: a line of small letters, a group's title.
_LINE = round(1.5 * SMALL_LETTERS)
_HEAD = 2 * LETTERS


class WorstMistakes:
    """Keeps the images that the classifier is most wrong about, a few of each group.

    How wrong is what the predicted class scores above the true one.
    """

    def __init__(self, per_group: int = PER_GROUP) -> None:
        self._per_group = per_group
        self._kept: dict[Group, list[tuple[float, int, ExplainedMistake]]] = {
            group: [] for group in Group
        }
        self._count = 0

    def add(self, shown: ExplainedMistake) -> None:
        """Keep an image, if it belongs to the worst so far; of equal ones the first stays."""
        evidence, kept = shown.mistake.evidence, self._kept[shown.mistake.group]
        self._count += 1
        entry = (evidence.predicted_score - evidence.true_score, -self._count, shown)
        if len(kept) < self._per_group:
            heapq.heappush(kept, entry)
        else:
            heapq.heappushpop(kept, entry)

    def of(self, group: Group) -> list[ExplainedMistake]:
        """The worst of a group, worst first."""
        return [shown for _, _, shown in sorted(self._kept[group], reverse=True)]


def draw_diagnosis(
    target: Path, worst: WorstMistakes, class_names: Sequence[str], *, of_pixels: bool = False
) -> None:
    """Draw a band a group: images across, and below each the maps of its two classes.

    Args:
        target: A PNG to write; an old one is replaced.
        worst: The images.
        class_names: R names.
        of_pixels: Whether the maps are of a method of single pixels; see ``shown_over``.

    Raises:
        LcamError: The file cannot be written.
    """
    bands = [(group, examples) for group in Group if (examples := worst.of(group))]
    rows = ("image", "true class", "predicted")
    left = round(max(font(LETTERS).getlength(name) for name in rows)) + 3 * GAP
    columns = max(len(examples) for _, examples in bands)
    wide, high = tile_size(*bands[0][1][0].view.shape[:2])
    step = high + _LINE + GAP  # a tile with its line
    band = _HEAD + 3 * step + GAP
    sheet = Image.new(
        "RGB", (left + columns * (wide + GAP) + GAP, len(bands) * band + GAP), "white"
    )
    draw = ImageDraw.Draw(sheet)
    for number, (group, examples) in enumerate(bands):
        top = number * band
        draw.text((GAP, top + _HEAD // 2), group.words, "black", font(LETTERS), anchor="lm")
        for row, name in enumerate(rows):
            middle = top + _HEAD + row * step + high // 2
            draw.text((left - 2 * GAP, middle), name, "black", font(LETTERS), anchor="rm")
        for column, shown in enumerate(examples):
            x = left + column * (wide + GAP)
            tiles = _tiles(shown, class_names, (wide, high), of_pixels=of_pixels)
            for row, (tile, label) in enumerate(tiles):
                y = top + _HEAD + row * step
                sheet.paste(tile, (x, y))
                place = (x + wide // 2, y + high + _LINE // 2)
                text = shortened(label, wide)
                draw.text(place, text, "black", font(SMALL_LETTERS), anchor="mm")
    save_figure(sheet, target)


def _tiles(
    shown: ExplainedMistake, class_names: Sequence[str], size: tuple[int, int], *, of_pixels: bool
) -> list[tuple[Image.Image, str]]:
    """The image and its two maps, each with what stands below it."""
    found = shown.mistake
    view = Image.fromarray(shown.view).resize(size, Image.Resampling.LANCZOS)

    def under(V: Floats) -> Image.Image:
        return shown_over(view, V, of_pixels=of_pixels)

    def score_of(class_index: int, score: float) -> str:
        return f"{printable(class_names[class_index])} {score:.1%}"

    return [
        (view, printable("/".join(Path(found.path).parts[-2:]))),
        (under(shown.true_map), score_of(found.true, found.evidence.true_score)),
        (under(shown.predicted_map), score_of(found.predicted, found.evidence.predicted_score)),
    ]
