"""ShapleyCAM: Grad-CAM whose weights see how the gradient itself changes with the features.

Cai: CAMs as Shapley Value-based Explainers, arXiv 2501.06261, 2025.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lcam_cli.engine.curvature import gradient_and_curvature
from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.methods.attention import class_activation_map
from lcam_cli.methods.base import Maps


class ShapleyCam:
    """w_k = mean_pq (g − ½·H·A)_kpq, H the Hessian of the logit at A; L = ReLU(Σ_k w_k A_k).

    A second-order approximation of the Shapley values of A's parts. Where the head is pooling,
    ReLUs and linear layers, H is zero and the map is Grad-CAM's.
    """

    name = "shapleycam"
    forward_passes = 1

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """One forward pass, and two backward passes through the head."""
        g, HA = gradient_and_curvature(engine, forward, classes)
        w = (g - HA / 2).mean((2, 3))
        return Maps.of_cam(class_activation_map(forward.A, w).relu(), forward)
