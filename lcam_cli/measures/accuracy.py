"""How often the classifier itself is right."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lcam_cli.measures.label_order import LabelOrder


class Accuracy:
    """Counts top-1 and top-5 hits over the pictures that have a label.

    Attributes:
        count: Pictures with a label.
        top1: Percentage whose label scores highest; None without pictures.
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

    def update(self, logits: Tensor, labels: Sequence[int | None]) -> None:
        """Add a batch: logits (B, R), and a class index a picture, None where it is unknown."""
        known = [i for i, label in enumerate(labels) if label is not None]
        if not known:
            return
        truth = torch.tensor([labels[i] for i in known], device=logits.device).unsqueeze(1)
        best = logits[known].topk(min(5, logits.shape[1]), 1).indices
        self.count += len(known)
        self._hits1 += int((best[:, :1] == truth).sum())
        self._hits5 += int((best == truth).any(1).sum())
        for label, predicted in zip(truth[:, 0].tolist(), best[:, 0].tolist(), strict=True):
            self.order.update(label, predicted)
