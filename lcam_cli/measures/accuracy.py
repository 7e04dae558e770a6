"""How often the classifier itself is right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lcam_cli.measures.label_order import LabelOrder

BEST = 5
"""How many of the highest classes of an image count: top-5."""


def best_classes(logits: Tensor) -> NDArray[np.int64]:
    """Return the classes of the five highest logits, best first.

    Args:
        logits: (B, R).

    Returns:
        (B, 5); −1 beyond the last of fewer than five classes.
    """
    found: NDArray[np.int64] = np.full((len(logits), BEST), -1, np.int64)
    best = logits.topk(min(BEST, logits.shape[1]), 1).indices.cpu().numpy()
    found[:, : best.shape[1]] = best
    return found


class Accuracy:
    """Counts top-1 and top-5 hits over the images that have a label.

    Attributes:
        count: Images with a label.
        top1: Percentage whose label scores highest; None without images.
        top5: Percentage whose label is among the five highest.
        order: Watches whether the labels are the classes in another order.
    """

    def __init__(self) -> None:
        self.count = 0
        self.order = LabelOrder()
        self._hits1 = 0
        self._hits5 = 0

    @property
    def top1(self) -> float | None:
        """Percentage whose label scores highest."""
        return 100 * self._hits1 / self.count if self.count else None

    @property
    def top5(self) -> float | None:
        """Percentage whose label is among the five highest."""
        return 100 * self._hits5 / self.count if self.count else None

    def update(self, best: NDArray[np.int64], labels: Sequence[int | None]) -> None:
        """Add a batch.

        Args:
            best: What :func:`best_classes` gives, (B, 5).
            labels: A class index an image, B of them; None where it is unknown.
        """
        for classes, label in zip(best.tolist(), labels, strict=True):
            if label is None:
                continue
            self.count += 1
            self._hits1 += classes[0] == label
            self._hits5 += label in classes
            self.order.update(label, classes[0])
