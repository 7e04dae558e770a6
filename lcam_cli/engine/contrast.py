"""What gradients are taken of: the logit of a class, or its contrast with the classes near it.

Zhang et al.: Finer-CAM: Spotting the Difference Reveals Finer Details for Visual Explanation, CVPR
2025 (arXiv 2501.11309): f_y − α·Σ_i p_i f_i / Σ_i p_i over the classes i whose logits are nearest
to that of y. What near classes have in common cancels; what tells y from them is left.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lcam_cli.engine.activation import Activation
from lcam_cli.errors import LcamError

_TEXT = re.compile(r"([1-9][0-9]{0,5})(?::([0-9]{1,6}(?:\.[0-9]{1,6})?))?", re.ASCII)


@dataclass(frozen=True)
class Contrast:
    """f_y − α·Σ_i p_i f_i / Σ_i p_i, over the K classes i nearest to y in logit.

    p is the network's softmax score; where its scores are sigmoids (``--activation sigmoid``),
    these. Gradients flow through p too.

    Attributes:
        count: K; of fewer other classes, all are taken, and of none f_y alone is left.
        alpha: α, at least 0.
        logits: (B, R) of the images that are explained: they tell which classes are near, also
            where gradients are those of changed copies. None before there are images.
    """

    count: int = 3
    alpha: float = 1.0
    logits: Tensor | None = None

    @classmethod
    def parse(cls, text: str) -> Contrast:
        """Return the contrast of ``"K"`` or ``"K:α"``.

        Raises:
            LcamError: It is neither.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise LcamError(
                f"--contrast {text!r} is not K or K:ALPHA",
                "pass the number of near classes and their weight, e.g. --contrast 3:0.6",
            )
        return cls(int(match[1]), float(match[2] or 1))

    def __str__(self) -> str:
        return f"{self.count}:{self.alpha:g}"

    def of(self, logits: Tensor) -> Contrast:
        """The same on images with these logits (B, R)."""
        return replace(self, logits=logits)

    def only(self, rows: Tensor | slice) -> Contrast:
        """The same on some of its images."""
        return self if self.logits is None else self.of(self.logits[rows])

    def near(self, classes: Tensor) -> Tensor:
        """The classes nearest to ``classes`` (B,) on each image: (B, at most K), int64."""
        assert self.logits is not None, "without images"
        own = classes.unsqueeze(1)
        distance = (self.logits - self.logits.gather(1, own)).abs()
        # Before the infinities of logits that are none: y itself is never one of them.
        distance = distance.nan_to_num(posinf=torch.finfo(distance.dtype).max)
        distance = distance.scatter(1, own, math.inf)
        count = min(self.count, self.logits.shape[1] - 1)
        return distance.topk(count, dim=1, largest=False).indices


def near_classes(contrast: Contrast | None, classes: Tensor) -> Tensor:
    """The classes that ``classes`` (B,) are held against: (B, K), int64; (B, 0) for none."""
    return classes.new_empty(len(classes), 0) if contrast is None else contrast.near(classes)


def explained(
    logits: Tensor,
    classes: Tensor,
    near: Tensor,
    contrast: Contrast | None,
    activation: Activation = "softmax",
) -> Tensor:
    """What gradients are taken of, one number an image.

    Args:
        logits: (B, R).
        classes: y, (B,), int64.
        near: Of :func:`near_classes`, (B, K).
        contrast: Its settings; None for the logit of y.
        activation: What turns logits into scores.

    Returns:
        (B,), with the graph of ``logits``.
    """
    f = logits.gather(1, classes.unsqueeze(1)).squeeze(1)
    if contrast is None or not near.shape[1]:
        return f
    others = logits.gather(1, near)
    # p_i / Σ p_i from log p: scores may all be too small to be numbers above 0.
    log_p = logsigmoid(others) if activation == "sigmoid" else others
    # A class that a network rules out by a logit of −∞ weighs 0, and 0·∞ would be no number.
    others = others.masked_fill(others == -math.inf, 0)
    return f - contrast.alpha * (log_p.softmax(1) * others).sum(1)
