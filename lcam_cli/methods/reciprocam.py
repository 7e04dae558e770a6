"""Recipro-CAM: what the head makes of the features around one cell at a time.

Byun, Lee: Recipro-CAM: Fast Gradient-Free Visual Explanations for Convolutional Neural Networks,
CVPR Workshops 2024 (arXiv 2209.14074).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lcam_cli.engine.activation import confidence
from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.methods.base import Maps

_BESIDE = torch.tensor([0.25, 0.5, 0.25])
"""Along an axis; their products are the Gaussian: 1/4 in the middle, 1/8 beside, 1/16 across."""


class ReciproCam:
    """L_pq = score of y of the head on A ⊙ M_pq, M_pq a 3×3 Gaussian at (p, q), zero elsewhere.

    Args:
        cells: P·Q, the passes a map costs, through the head alone where the network splits.
    """

    name = "reciprocam"

    def __init__(self, cells: int) -> None:
        self.params: dict[str, Any] = {}
        self.forward_passes = cells

    @torch.no_grad()
    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """P·Q passes through the head an image, in full batches over cells and images."""
        B, _, P, Q = forward.A.shape
        rows, columns = _gaussians(P).to(forward.A), _gaussians(Q).to(forward.A)

        def score(picture: Tensor, cell: Tensor) -> Tensor:
            mask = rows[cell // Q, :, None] * columns[cell % Q, None, :]
            around = [t[picture] for t in forward.around]
            logits = engine.head(forward.A[picture] * mask[:, None], around)
            return confidence(logits, classes[picture], engine.activation)

        every = torch.arange(B * P * Q, device=forward.A.device)
        found = [
            engine.run(score, one // (P * Q), one % (P * Q))
            for one in torch.split(every, engine.batch_size)
        ]
        return Maps.of_cam(torch.cat(found).view(B, P, Q), forward)


def _gaussians(cells: int) -> Tensor:
    """One around each cell of an axis, (cells, cells): what lies beyond the edge is left out."""
    full = torch.zeros(cells, cells + 2)
    for cell in range(cells):
        full[cell, cell : cell + 3] = _BESIDE
    return full[:, 1:-1]
