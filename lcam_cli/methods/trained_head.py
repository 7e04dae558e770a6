"""BLA and BLA-T: bounded logit attention inside the classifier, whose head is trained with it.

Baumhauer, Slijepčević, Zeppelzauer, arXiv 2105.14824, 2021. The head gets Σ_pq a·A instead of the
mean of A. With the attention in it and other weights the classifier is another one: its scores, and
so AD and IC, are its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lcam_cli.methods.bounded_logit import Kind, PositionLogits, soft_selection

HEAD_MODES = ("bla-head", "bla-t-head")


class TrainedHead:
    """What ``--train-head`` leaves.

    Attributes:
        logits: The 1×1 convolution.
        W: The head's weights, (R, K), float32.
        b: Its biases, (R,), float32.
    """

    def __init__(self, logits: PositionLogits, W: Tensor, b: Tensor) -> None:
        self.logits = logits
        self.W = W
        self.b = b

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor], kind: Kind) -> TrainedHead:
        """Make it from a file's tensors.

        Raises:
            ValueError: They are not of these names and shapes; says which are needed.
        """
        w, W, b = tensors.get("weight"), tensors.get("head_weight"), tensors.get("head_bias")
        if w is None or W is None or b is None or W.shape != (*b.shape, *w.shape) or b.ndim != 1:
            raise ValueError("a weight (K,), a bias (), a head_weight (R, K) and a head_bias (R,)")
        return cls(PositionLogits.of_tensors(tensors, kind), W, b)

    def tensors(self) -> dict[str, Tensor]:
        """What goes into a file."""
        return {**self.logits.tensors(), "head_weight": self.W, "head_bias": self.b}

    @property
    def channels(self) -> int:
        """K."""
        return self.logits.channels

    @property
    def classes(self) -> int:
        """R."""
        return len(self.b)

    def module(self) -> nn.Module:
        """The head as the classifier runs it: A (B, K, P, Q) to logits (B, R)."""
        return _Head(self)


class _Head(nn.Module):
    """W·Σ_pq a·A + b, with a of A itself."""

    def __init__(self, learned: TrainedHead) -> None:
        super().__init__()
        self._kind: Kind = learned.logits.kind
        self.w: Tensor
        self.bias: Tensor
        self.W: Tensor
        self.b: Tensor
        self.register_buffer("w", learned.logits.w)
        self.register_buffer("bias", learned.logits.b)
        self.register_buffer("W", learned.W)
        self.register_buffer("b", learned.b)

    def forward(self, A: Tensor) -> Tensor:
        logits = torch.einsum("k,bkpq->bpq", self.w, A) + self.bias
        return head_scores(A, soft_selection(logits, self._kind), self.W, self.b)


def head_scores(A: Tensor, a: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """W·Σ_pq a·A + b.

    Args:
        A: Feature maps, (B, K, P, Q).
        a: The weights of their positions, (B, P, Q).
        W: Weights of the head, (R, K).
        b: Its biases, (R,).

    Returns:
        Logits, (B, R).
    """
    return F.linear((A * a.unsqueeze(1)).sum((2, 3)), W, b)
