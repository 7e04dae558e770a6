"""CAM: the weights of a linear head, applied before its pooling instead of after.

Zhou et al.: Learning Deep Features for Discriminative Localization, CVPR 2016.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.errors import CannotExplainError
from lcam_cli.methods.attention import class_activation_map
from lcam_cli.methods.base import Maps


class Cam:
    """L = Σ_k W[y,k]·A_k, with W the rows of the head's only linear layer.

    Raises:
        CannotExplainError: The head is not global average pooling and one linear layer.
    """

    name = "cam"
    forward_passes = 1

    def __init__(self, backbone: Backbone) -> None:
        linear = backbone.linear_head()
        if linear is None:
            identity = backbone.identity
            instead = "gradcam" if backbone.differentiable else "scorecam"
            raise CannotExplainError(
                f"cam cannot explain {identity.name}: what follows layer {identity.layer} is not "
                "average pooling and one linear layer",
                f"use a method for any head, e.g. {instead}",
            )
        self.params: dict[str, Any] = {}
        self._W = linear.weight.detach().float()

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """V = θ(ζ(L)), without a ReLU."""
        self._W = self._W.to(engine.device)
        return Maps.of_cam(class_activation_map(forward.A, self._W[classes]), forward)
