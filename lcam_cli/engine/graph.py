"""The graph of a forward pass, for what goes backward from there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Graph:
    """What a forward pass leaves for backward passes.

    Attributes:
        logits: (B, R) or, of heads on L blocks, (L·B, R), with the graph that leads back.
        starts: Where gradients are wanted: pixels, layers or attention, in the order of the pass.
            They may have no gradient, where what they hold is all that is wanted.
        is_kept: Whether it may serve several backward passes, and holds its memory until then.
    """

    logits: Tensor
    starts: list[Tensor]
    is_kept: bool = False

    def gradients(self, value: Tensor, *, allow_unused: bool = False) -> tuple[Tensor, ...]:
        """∂ Σ value / ∂ each start, for ``value`` made of the logits.

        Args:
            value: Any shape.
            allow_unused: Whether None may stand for that of a start that has none.
        """
        return torch.autograd.grad(
            value.sum(), self.starts, retain_graph=self.is_kept, allow_unused=allow_unused
        )

    def release(self) -> None:
        """Give its memory back; it is good for nothing then."""
        self.logits = self.logits.detach()
        self.starts.clear()
