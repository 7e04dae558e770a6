"""Bounded logit attention: which positions of the feature maps the head needs, whatever the class.

Baumhauer, Slijepčević, Zeppelzauer: Bounded logit attention: Learning to explain image
classifiers, arXiv 2105.14824, 2021; their variant BLA-PH, for a classifier that stays as it is.
One 1×1 convolution without classes gives every position a logit ℓ, and −ReLU(ℓ) bounds it: all
positions at the bound 0 count the same, so an image decides by itself how many it needs. L2X-F,
what they compare with (after Chen et al., ICML 2018), takes a fixed number of positions instead.
Their BLA and BLA-T, which train the classifier's head too, are in ``methods.trained_head``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.methods.attention import class_activation_map, upsample
from lcam_cli.methods.base import Maps

TAU = 0.1
"""τ, on the bounded logits inside the softmax."""
THRESHOLD = 0.98
"""What BLA-PH and BLA-T take away from the attention, in parts of its mean 1/(P·Q)."""
POSITIONS = 8
"""k of L2X-F."""

Kind = Literal["bla", "bla-head", "bla-t-head", "l2x-f"]
"""``"bla"`` is BLA-PH; ``"bla-head"`` BLA and ``"bla-t-head"`` BLA-T, whose head is trained."""


def bounded(logits: Tensor) -> Tensor:
    """β = −ReLU(ℓ): logits (B, P, Q) to values of at most 0."""
    return -logits.relu()


def soft_selection(logits: Tensor, kind: Kind = "bla") -> Tensor:
    """BLA-PH's and BLA-T's attention a = ReLU(softmax_pq(τ·β) − 0.98/(P·Q)); BLA's is the softmax.

    Args:
        logits: ℓ, (B, P, Q).
        kind: Which of the three.

    Returns:
        (B, P, Q), at least 0; 0 where a position is not looked at. Its sum is at most 1, and the
        closer to 1 the fewer positions share it.
    """
    positions = logits[0].numel()
    shares = (TAU * bounded(logits)).flatten(1).softmax(1).view_as(logits)
    return shares if kind == "bla-head" else (shares - THRESHOLD / positions).relu()


def hard_selection(logits: Tensor) -> Tensor:
    """The positions whose bounded logit is the image's largest: (B, P, Q) of 0 and 1."""
    beta = bounded(logits)
    return (beta == beta.amax((1, 2), keepdim=True)).to(logits.dtype)


def fixed_selection(logits: Tensor, k: int = POSITIONS) -> Tensor:
    """The k positions of the largest logits, or all where there are fewer: (B, P, Q) of 0 and 1."""
    flat = logits.flatten(1)
    chosen = flat.topk(min(k, flat.shape[1]), 1).indices
    return torch.zeros_like(flat).scatter_(1, chosen, 1.0).view_as(logits)


class PositionLogits:
    """The 1×1 convolution: ℓ = Σ_k w_k·A_k + b.

    Attributes:
        w: One weight a feature map, (K,), float32.
        b: The bias, (), float32.
        kind: What it was trained for.
    """

    classes = None  # it serves any number of them

    def __init__(self, w: Tensor, b: Tensor, kind: Kind) -> None:
        self.w = w
        self.b = b
        self.kind: Kind = kind

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor], kind: Kind) -> PositionLogits:
        """Make it from a file's tensors.

        Raises:
            ValueError: They are not of these names and shapes; says which are needed.
        """
        w, b = tensors.get("weight"), tensors.get("bias")
        if w is None or b is None or w.ndim != 1 or b.shape != ():
            raise ValueError("a weight (K,) and a bias ()")
        return cls(w, b, kind)

    def tensors(self) -> dict[str, Tensor]:
        """What goes into a file."""
        return {"weight": self.w, "bias": self.b}

    @property
    def channels(self) -> int:
        """K."""
        return len(self.w)

    def __call__(self, A: Tensor) -> Tensor:
        """ℓ (B, P, Q) of feature maps (B, K, P, Q)."""
        w, b = self.w.expand(len(A), -1), self.b.expand(len(A))
        return class_activation_map(A, w, b)

    def to(self, device: torch.device) -> PositionLogits:
        """The same on another device."""
        return PositionLogits(self.w.to(device), self.b.to(device), self.kind)


class Bla:
    """BLA's soft map: V = θ(ζ(a)). All classes of an image have the same."""

    forward_passes = 1

    def __init__(self, logits: PositionLogits, params: dict[str, Any]) -> None:
        self.name: str = logits.kind
        self.params = params
        self._logits = logits

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """The attention as it was trained."""
        self._logits = self._logits.to(engine.device)
        a = soft_selection(self._logits(forward.A), self._logits.kind)
        return Maps.of_cam(a, forward)


class HardPositions:
    """A choice of positions, drawn as it is: V = θ(1 where chosen, else 0).

    Args:
        logits: The trained convolution. BLA's number of positions is the image's own, and its
            row is called ``"bla-hard"`` beside the soft one; L2X-F's is fixed.
        params: For the record in the maps file.
    """

    forward_passes = 1

    def __init__(self, logits: PositionLogits, params: dict[str, Any]) -> None:
        fixed = logits.kind == "l2x-f"
        self.name: str = logits.kind if fixed else f"{logits.kind}-hard"
        self.params = params
        self._logits = logits
        self._select = fixed_selection if fixed else hard_selection

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """No ζ: where every position is chosen the map is all ones, not a constant without size."""
        self._logits = self._logits.to(engine.device)
        chosen = self._select(self._logits(forward.A)).float()
        height, width = forward.x.shape[2:]
        return Maps(upsample(chosen, (height, width), forward.grid), chosen)
