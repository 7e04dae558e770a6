"""Opti-CAM: the mixture of feature maps that, as a mask, keeps the logit as it is.

Zhang, Torres, Sicre, Avrithis, Ayache: Opti-CAM: Optimizing saliency maps for interpretability,
Computer Vision and Image Understanding 2024 (arXiv 2301.07002).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.methods.attention import class_activation_map, min_max, upsample
from lcam_cli.methods.base import Maps, at_least_one

_LEARNING_RATE = 0.1


class OptiCam:
    """V = ζ(θ(Σ_k softmax(u)_k A_k)), u found by 100 steps of Adam: |f_y(X) − f_y(V ⊙ X)| → min.

    f_y is the logit, and masks multiply pixels in [0, 1]. u begins at zero, so that all channels
    weigh alike, unless they then cancel: see :func:`start`. Adam works number by number, so that
    the images of a batch do not matter to each other.

    Args:
        steps: Of Adam; the forward passes that a map costs.

    Raises:
        LcamError: Fewer than one.
    """

    name = "opticam"
    batches_pictures = True

    def __init__(self, steps: int = 100) -> None:
        at_least_one("steps", steps)
        self.params: dict[str, Any] = {"steps": steps, "learning_rate": _LEARNING_RATE}
        self.forward_passes = steps

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """A forward and a backward pass of the batch a step."""
        height, width = forward.x.shape[2:]

        def optimise(x: Tensor, A: Tensor, classes: Tensor, logit: Tensor) -> tuple[Tensor, Tensor]:
            u = start(A, torch.finfo(engine.hardware.dtype).eps).requires_grad_(True)
            adam = torch.optim.Adam([u], lr=_LEARNING_RATE)
            for _ in range(self.forward_passes):
                with torch.enable_grad():
                    S, _ = mixture(A, u)
                    f = engine.logits_with_gradients(x * S[:, None])
                    loss = (logit - f.gather(1, classes[:, None])[:, 0]).abs().sum()
                (u.grad,) = torch.autograd.grad(loss, u)
                adam.step()
            with torch.no_grad():
                return mixture(A, u)

        def mixture(A: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
            L = class_activation_map(A, u.softmax(1))
            return min_max(upsample(L, (height, width), forward.grid)), L

        logit = forward.logits.gather(1, classes[:, None])[:, 0]
        V, L = engine.run(optimise, forward.x, forward.A, classes, logit)
        return Maps(V, L)


def start(A: Tensor, rounding: float) -> Tensor:
    """Where u begins, (B, K), for A (B, K, P, Q): zeros.

    A LayerNorm's channels add up to the same number in every cell, and ζ would make a mask of
    rounding. There channels begin with their variance, as a share of the largest. It has to
    differ between most of them: Adam would take a step of full length where a gradient is zero but
    for rounding.

    Args:
        A: Feature maps.
        rounding: How far apart numbers of the precision are, as a share of them.
    """
    even = A.mean(1).flatten(1)
    cancel = even.amax(1) - even.amin(1) <= 4 * rounding * A.abs().amax((1, 2, 3))
    variance = A.var((2, 3), correction=0)
    share = variance / variance.amax(1, keepdim=True).clamp_min(torch.finfo(A.dtype).tiny)
    return torch.where(cancel[:, None], share, 0)
