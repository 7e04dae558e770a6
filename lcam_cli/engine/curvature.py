"""How the gradient of a class at the target layer changes with the features."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from lcam_cli.engine.contrast import explained, near_classes
from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.engine.no_gradients import no_gradients
from lcam_cli.errors import LcamError


def gradient_and_curvature(
    engine: Engine, forward: Forward, classes: Tensor
) -> tuple[Tensor, Tensor]:
    """G = ∂f_y/∂A and H·A, H the Hessian of f_y at A.

    Only the head is differentiated. H itself, (K·P·Q)² numbers, is never there: H·A is the gradient
    of g·A where A is a constant.

    Args:
        engine: The engine.
        forward: What it gave for images; its ``contrast`` stands for f_y.
        classes: y, (B,), int64.

    Returns:
        Two of (B, K, P, Q), float32.

    Raises:
        LcamError: The head has no gradient, or no second one.
    """
    if not engine.backbone.differentiable:
        raise no_gradients(engine.backbone, "this method")

    def both(A: Tensor, classes: Tensor, near: Tensor, *around: Tensor) -> tuple[Tensor, Tensor]:
        # Fused attention knows its first gradient alone. In float32, whatever the precision: what
        # scales gradients in float16 counts on every one of them coming in through the logits.
        head = engine.backbone.float32_head()
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), head:
            start = A.detach().clone().requires_grad_(True)
            logits = engine.head(start, around)
            value = explained(logits, classes, near, forward.contrast, engine.activation)
            (g,) = torch.autograd.grad(value.sum(), start, create_graph=True)
            HA = None
            if g.requires_grad:  # not of a linear head
                (HA,) = torch.autograd.grad((g * A.detach()).sum(), start, allow_unused=True)
        return g.detach(), torch.zeros_like(g) if HA is None else HA

    near = near_classes(forward.contrast, classes)
    try:
        g, HA = engine.run(both, forward.A, classes, near, *forward.around)
    except (RuntimeError, NotImplementedError) as error:
        if "is not implemented" not in str(error) and "not differentiable" not in str(error):
            raise
        raise LcamError(
            f"what follows layer {engine.backbone.identity.layer} has no second gradient: "
            + str(error).partition("\n")[0],
            "use a method that needs only the first gradient, e.g. gradcam",
        ) from error
    return g, HA
