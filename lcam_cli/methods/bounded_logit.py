"""Bounded logit attention: which positions of the feature maps the head needs, whatever the class.

Baumhauer, Slijepčević, Zeppelzauer: Bounded logit attention: Learning to explain image
classifiers, arXiv 2105.14824, 2021; their variant BLA-PH, for a classifier that stays as it is.
One 1×1 convolution without classes gives every position a logit ℓ, and −ReLU(ℓ) bounds it: all
positions at the bound 0 count the same, so a picture decides by itself how many it needs. L2X-F,
what they compare with (after Chen et al., ICML 2018), takes a fixed number of positions instead.
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
"""What BLA-PH takes away from the attention, in parts of its mean 1/(P·Q)."""
POSITIONS = 8
"""k of L2X-F."""

Kind = Literal["bla", "l2x-f"]


def bounded(logits: Tensor) -> Tensor:
    """β = −ReLU(ℓ): logits (B, P, Q) to values of at most 0."""
    return -logits.relu()


def soft_selection(logits: Tensor) -> Tensor:
    """BLA-PH's attention a = ReLU(softmax_pq(τ·β) − 0.98/(P·Q)).

    Args:
        logits: ℓ, (B, P, Q).

    Returns:
        (B, P, Q), at least 0; 0 where a position is not looked at. Its sum is at most 1, and the
        closer to 1 the fewer positions share it.
    """
    positions = logits[0].numel()
    shares = (TAU * bounded(logits)).flatten(1).softmax(1).view_as(logits)
    return (shares - THRESHOLD / positions).relu()


def hard_selection(logits: Tensor) -> Tensor:
    """The positions whose bounded logit is the picture's largest: (B, P, Q) of 0 and 1."""
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
        kind: What it was trained for, ``"bla"`` or ``"l2x-f"``.
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
    """BLA-PH's soft map: V = θ(ζ(a)). All classes of a picture have the same."""

    name = "bla"
    forward_passes = 1

    def __init__(self, logits: PositionLogits, params: dict[str, Any]) -> None:
        self.params = params
        self._logits = logits
        self._aligned = bool(params.get("training", {}).get("align"))

    def __call__(self, engine: Engine, seen: Forward, classes: Tensor) -> Maps:
        """The attention as it was trained."""
        self._logits = self._logits.to(engine.device)
        a = soft_selection(self._logits(seen.A))
        return Maps.of_cam(a, seen, engine.grid(self._aligned))


class HardPositions:
    """A choice of positions, drawn as it is: V = θ(1 where chosen, else 0).

    Args:
        name: ``"bla-hard"``, where the number of positions is the picture's own, or ``"l2x-f"``.
        logits: The trained convolution.
        params: For the record in the maps file.
    """

    forward_passes = 1

    def __init__(
        self, name: Literal["bla-hard", "l2x-f"], logits: PositionLogits, params: dict[str, Any]
    ) -> None:
        self.name: str = name
        self.params = params
        self._logits = logits
        self._select = hard_selection if name == "bla-hard" else fixed_selection
        self._aligned = bool(params.get("training", {}).get("align"))

    def __call__(self, engine: Engine, seen: Forward, classes: Tensor) -> Maps:
        """No ζ: where every position is chosen the map is all ones, not a constant without size."""
        self._logits = self._logits.to(engine.device)
        chosen = self._select(self._logits(seen.A)).float()
        height, width = seen.x.shape[2:]
        grid = engine.grid(self._aligned)
        return Maps(upsample(chosen, (height, width), grid or seen.grid), chosen)
