"""Class activation maps whose channel weights come from gradients at the target layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.methods.base import Maps


class GradCam:
    """Grad-CAM (Selvaraju et al., ICCV 2017): α_k = mean_pq g_kpq, L = ReLU(Σ_k α_k A_k)."""

    name = "gradcam"
    forward_passes = 1

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}

    def __call__(self, engine: Engine, seen: Forward, classes: Tensor) -> Maps:
        """One forward pass and one backward pass through the head."""
        alpha = engine.feature_gradients(seen, classes).mean((2, 3))
        return Maps.of_cam(torch.einsum("bk,bkpq->bpq", alpha, seen.A).relu(), seen)
