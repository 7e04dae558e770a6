"""Which classes are taken for which: a confusion matrix of those with the most errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lcam_cli.measures.diagnose import Mistake

LARGEST = 20
"""Classes of a matrix: more do not fit on a screen."""


@dataclass(frozen=True)
class Confusion:
    """Counts of images by true and predicted class.

    Attributes:
        classes: The N classes that are shown, in the classifier's order.
        counts: Images, N rows by true class, N columns by predicted class.
        elsewhere: By true class, its images that were taken for a class that is not shown: N.
        left_out: Classes that are in some error, and not shown.
        pairs: Every pair of a true and another predicted class with its images, most first.
    """

    classes: Sequence[int]
    counts: Sequence[Sequence[int]]
    elsewhere: Sequence[int]
    left_out: int
    pairs: Sequence[tuple[int, int, int]]


def confusion(images: Sequence[int], mistakes: Sequence[Mistake], most: int = LARGEST) -> Confusion:
    """Count images by true and predicted class.

    Args:
        images: Labelled images of each class, R numbers.
        mistakes: The misclassified ones.
        most: How many classes are shown: those in most errors, on either side.
    """
    pairs = Counter((m.true, m.predicted) for m in mistakes)
    missed = Counter(m.true for m in mistakes)
    involved = Counter(c for m in mistakes for c in (m.true, m.predicted))
    ranked = sorted(involved, key=lambda c: (-involved[c], c))
    classes = sorted(ranked[:most])
    counts = [[images[t] - missed[t] if t == p else pairs[t, p] for p in classes] for t in classes]
    # A row's images add up to those of its class.
    elsewhere = [images[t] - sum(row) for t, row in zip(classes, counts, strict=True)]
    ordered = sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))
    return Confusion(
        classes,
        counts,
        elsewhere,
        len(ranked) - len(classes),
        [(t, p, count) for (t, p), count in ordered],
    )
