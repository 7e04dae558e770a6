"""Are the labels the classifier's classes in another order?

Numbers carry no names, so a file that counts from 1, or folders 0, 1, 10, 2, … that were sorted as
text when the classifier was trained, give labels that are wrong and all in range. Then nearly
everything looks misclassified, and nearly everything of a class as one and the same other class. A
weak classifier looks different: its mistakes are spread, or all fall on a few classes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lcam_cli.measures.wilson import lower_bound

# Of fewer images, or classes, an order that fits better is chance.
_PICTURES = 10
_CLASSES = 3
# How many times as many images the other order must get right, at the cautious ends of the 95%
# intervals of both.
_TIMES = 2.0

_Cells = Counter[tuple[int, int]]


@dataclass(frozen=True)
class _Fit:
    """How another order does.

    Attributes:
        pictures: Those that it says something of.
        hits: Those that are classified as it says.
        own: Those that are classified as they are labelled.
        moved: Classes most of whose images are classified as it says, and not as labelled.
    """

    pictures: int
    hits: int
    own: int
    moved: int

    def is_clear(self, classes: int) -> bool:
        """Whether it is so much better that chance and a bad classifier do not explain it."""
        if self.pictures < _PICTURES or self.moved < min(_CLASSES, classes):
            return False
        missed = self.pictures - self.own
        at_most = 1 - lower_bound(missed, self.pictures)
        return lower_bound(self.hits, self.pictures) > _TIMES * at_most

    def words(self) -> str:
        """Its numbers."""
        own, hits = (f"{count / self.pictures:.0%}" for count in (self.own, self.hits))
        return f"of {self.pictures} labelled images {own} are classified as labelled and {hits} as"


class LabelOrder:
    """Watches labels and predictions of the images of a run."""

    def __init__(self) -> None:
        # Every other image of a class, so that an order found on these is tried on the others.
        self._found_on: _Cells = Counter()
        self._tried_on: _Cells = Counter()
        self._pictures: Counter[int] = Counter()

    def update(self, label: int, predicted: int) -> None:
        """Add an image: its label, and the class that the classifier predicts."""
        half = self._tried_on if self._pictures[label] % 2 else self._found_on
        half[label, predicted] += 1
        self._pictures[label] += 1

    def warning(self, class_names: Sequence[str]) -> str:
        """Return one line that says in which order the labels seem to be; empty where they fit.

        Args:
            class_names: Of the classifier, R of them.
        """
        R = len(class_names)
        everything = self._found_on + self._tried_on
        by_text = sorted(range(R), key=str)
        known = {
            "the class before (do the labels count from 1?)": {c: c - 1 for c in range(1, R)},
            "the class after": {c: c + 1 for c in range(R - 1)},
            "the class at their position when numbers are sorted as text (0, 1, 10, 2, …)": {
                c: place for place, c in enumerate(by_text)
            },
        }
        for words, order in known.items():
            fit = _try(order, everything)
            if fit.is_clear(R):
                return _line(fit, words)
        order = _most_common(self._found_on)
        fit = _try(order, self._tried_on)
        if not fit.is_clear(R):
            return ""
        moved = [(a, b) for a, b in order.items() if a != b][:_CLASSES]
        examples = ", ".join(f"{class_names[a]} as {class_names[b]}" for a, b in moved)
        return _line(fit, f"another class, always the same one ({examples}, …)")


def _line(fit: _Fit, words: str) -> str:
    return (
        f"the labels look like the classes in another order: {fit.words()} {words}; "
        "pass --classes FILE with the classes in the classifier's order, one per line"
    )


def _try(order: Mapping[int, int], cells: _Cells) -> _Fit:
    """See how many images are classified as an order says."""
    hits: Counter[int] = Counter()
    own: Counter[int] = Counter()
    pictures: Counter[int] = Counter()
    for (label, predicted), count in cells.items():
        if label in order:
            pictures[label] += count
            hits[label] += count * (predicted == order[label])
            own[label] += count * (predicted == label)
    moved = sum(
        order[c] != c and hits[c] > own[c] and hits[c] >= math.ceil(n / 2)
        for c, n in pictures.items()
    )
    return _Fit(pictures.total(), hits.total(), own.total(), moved)


def _most_common(cells: _Cells) -> dict[int, int]:
    """The order that images speak for: each class as the one it is most often classified as.

    No two classes as the same one: the strongest pairs come first.
    """
    order: dict[int, int] = {}
    taken: set[int] = set()
    for (label, predicted), _ in sorted(cells.items(), key=lambda cell: (-cell[1], cell[0])):
        if label not in order and predicted not in taken:
            order[label] = predicted
            taken.add(predicted)
    return order
