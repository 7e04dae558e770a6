"""AMG: Grad-CAM's weighted feature maps, passed through a channel gate and a spatial gate.

An, Joe: Attention Map-Guided Visual Explanations for Deep Neural Networks, Applied Sciences
12:3846, 2022; the gates are those of Woo et al., CBAM, ECCV 2018. How their weights are found is
our reading: ``training.amg``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.methods.base import Maps


def weighted_features(engine: Engine, forward: Forward, classes: Tensor) -> Tensor:
    """F_k = α_k·A_k with Grad-CAM's α, each image's F brought to root mean square 1.

    α is small where the classifier is sure; without a common size the gates would see a constant.

    Returns:
        (B, K, P, Q), float32; zeros where F is zero everywhere.
    """
    alpha = engine.feature_gradients(forward, classes).mean((2, 3), keepdim=True)
    F_k = alpha * forward.A
    size = F_k.square().mean((1, 2, 3), keepdim=True).sqrt()
    return torch.where(size > 0, F_k / torch.where(size > 0, size, 1), 0)


class Gates:
    """The weights of both gates.

    Attributes:
        down: The MLP's first layer, (K/16, K).
        down_bias: (K/16,).
        up: Its second, (K, K/16).
        up_bias: (K,).
        place: The 7×7 convolution over [mean_k; max_k], (1, 2, 7, 7).
        place_bias: (1,).
    """

    classes = None  # the classes are in α

    def __init__(
        self,
        down: Tensor,
        down_bias: Tensor,
        up: Tensor,
        up_bias: Tensor,
        place: Tensor,
        place_bias: Tensor,
    ) -> None:
        self.down = down
        self.down_bias = down_bias
        self.up = up
        self.up_bias = up_bias
        self.place = place
        self.place_bias = place_bias

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> Gates:
        """Make them from a file's tensors.

        Raises:
            ValueError: They are not of these names and shapes; says which are needed.
        """
        down = tensors.get("down")
        if down is not None and down.ndim == 2:
            (M, K), names = down.shape, ("down", "down_bias", "up", "up_bias", "place")
            shapes = dict(zip(names, [(M, K), (M,), (K, M), (K,), (1, 2, 7, 7)], strict=True))
            shapes["place_bias"] = (1,)
            found = {name: tuple(tensors[name].shape) for name in shapes if name in tensors}
            if found == shapes and M and K:
                return cls(**{name: tensors[name] for name in shapes})
        raise ValueError("down (M, K), up (K, M), place (1, 2, 7, 7) and a bias for each")

    def tensors(self) -> dict[str, Tensor]:
        """What goes into a file."""
        return vars(self)

    @property
    def channels(self) -> int:
        """K."""
        return self.down.shape[1]

    def __call__(self, F_k: Tensor) -> Tensor:
        """L = Σ_k of F gated twice: (B, K, P, Q) to (B, P, Q).

        The channel gate is σ(MLP(mean_pq F) + MLP(max_pq F)); the spatial gate, on what it leaves,
        σ(conv7×7([mean_k; max_k])).
        """
        channel = (self._mlp(F_k.mean((2, 3))) + self._mlp(F_k.amax((2, 3)))).sigmoid()
        gated = F_k * channel[:, :, None, None]
        described = torch.stack([gated.mean(1), gated.amax(1)], 1)
        spatial = F.conv2d(described, self.place, self.place_bias, padding=3).sigmoid()
        return (gated * spatial).sum(1)

    def to(self, device: torch.device) -> Gates:
        """The same on another device."""
        return Gates(**{name: tensor.to(device) for name, tensor in self.tensors().items()})

    def _mlp(self, pooled: Tensor) -> Tensor:
        hidden = F.linear(pooled, self.down, self.down_bias).relu()
        return F.linear(hidden, self.up, self.up_bias)


class Amg:
    """V = θ(ζ(L)): one forward pass, and a backward pass through the head as Grad-CAM's."""

    name = "amg"
    forward_passes = 1

    def __init__(self, gates: Gates, params: dict[str, Any]) -> None:
        self.params = params
        self._gates = gates

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """L without a ReLU, as it is trained."""
        self._gates = self._gates.to(engine.device)
        L = self._gates(weighted_features(engine, forward, classes))
        return Maps.of_cam(L, forward)
