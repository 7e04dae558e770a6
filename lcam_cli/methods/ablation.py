"""Ablation-CAM: a channel weighs what the class's score loses without it.

Desai, Ramaswamy: Ablation-CAM: Visual Explanations for Deep Convolutional Network via Gradient-free
Localization, WACV 2020.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.methods.attention import class_activation_map
from lcam_cli.methods.base import Maps


class AblationCam:
    """α_k = (f_y − f_y without A_k)/f_y, f_y the logit; L = ReLU(Σ_k α_k A_k).

    Args:
        channels: K, the passes a map costs, through the head alone where the network splits. A
            channel that is zero everywhere costs none: its α is zero.
    """

    name = "ablationcam"

    def __init__(self, channels: int) -> None:
        self.params: dict[str, Any] = {}
        self.forward_passes = channels

    @torch.no_grad()
    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """K passes through the head an image, in full batches over channels and images."""

        def logit(A: Tensor, picture: Tensor) -> Tensor:
            around = [t[picture] for t in forward.around]
            logits = engine.backbone.head(A, around)
            return logits.gather(1, classes[picture, None])[:, 0]

        def without(picture: Tensor, channel: Tensor) -> Tensor:
            A = forward.A[picture]
            A[torch.arange(len(A), device=A.device), channel] = 0
            return logit(A, picture)

        alpha = forward.A.new_zeros(forward.A.shape[:2])
        active = (forward.A != 0).any(3).any(2).nonzero()
        # In float32 whatever the precision: α is a small difference of large numbers.
        with engine.backbone.float32_head():
            f: Tensor = engine.run(
                logit, forward.A, torch.arange(len(forward.A), device=forward.A.device)
            )
            for start in range(0, len(active), engine.batch_size):
                picture, channel = active[start : start + engine.batch_size].unbind(1)
                drop = f[picture] - engine.run(without, picture, channel)
                alpha[picture, channel] = drop / f[picture]
        return Maps.of_cam(class_activation_map(forward.A, alpha).relu(), forward)
