"""How a logit changes with a whole channel: Grad-CAM's α, also where there are no gradients.

Grad-CAM's α_k is the gradient's mean over the P·Q places of channel k (Selvaraju et al.: Grad-CAM,
ICCV 2017, Eq. 1). So P·Q·α_k is the derivative of the logit when all of the channel rises by the
same, and that can be measured: by the head alone, on a channel that is a little higher and a little
lower. Where the head is average pooling and a linear layer, α_k is its weight over P·Q.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward

_STEP = 0.05
"""Of the standard deviation of A: less drowns in rounding, more leaves the place that is meant."""


def channel_gradients(engine: Engine, forward: Forward, classes: Tensor) -> Tensor:
    """Means of ∂f_y/∂A over the places of each channel: α, (B, K), float32.

    Args:
        engine: The engine.
        forward: What it gave for images.
        classes: y, (B,), int64.
    """
    if engine.backbone.differentiable:
        return engine.feature_gradients(forward, classes).mean((2, 3))
    P, Q = forward.A.shape[2:]
    linear = engine.backbone.linear_head()
    if linear is not None:
        return linear.weight.detach().float().to(forward.A.device)[classes] / (P * Q)
    rows = [
        _measured(engine, forward.only(slice(b, b + 1)), classes[b]) for b in range(len(classes))
    ]
    return torch.stack(rows) / (P * Q)


@torch.no_grad()
def _measured(engine: Engine, forward: Forward, y: Tensor) -> Tensor:
    """Derivatives (K,) of the logit of class ``y`` of one image when a whole channel rises."""
    A, K = forward.A, forward.A.shape[1]
    step = (_STEP * A.std()).clamp_min(torch.finfo(torch.float32).tiny)
    found = []
    for channels in torch.split(torch.arange(K, device=A.device), max(1, engine.batch_size // 2)):
        n = len(channels)
        changed = A.repeat(2 * n, 1, 1, 1)
        rows = torch.arange(n, device=A.device)
        changed[rows, channels] += step
        changed[n + rows, channels] -= step
        around = [t.repeat(2 * n, *[1] * (t.ndim - 1)) for t in forward.around]
        with engine.backbone.float32_head():
            logits: Tensor = engine.run(lambda A, *rest: engine.head(A, rest), changed, *around)
        found.append((logits[:n, y] - logits[n:, y]) / (2 * step))
    return torch.cat(found)
