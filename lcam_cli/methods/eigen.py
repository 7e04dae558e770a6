"""Eigen-CAM and Eigen-Grad-CAM: where the features vary most, in the direction they vary most in.

Muhammad, Yeasin: Eigen-CAM: Class Activation Map using Principal Components, IJCNN 2020.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.methods.base import Maps


class EigenCam:
    """L = X·v: A as X (P·Q, K), centred over the cells; v is its first right singular vector.

    No class is explained: the map of an image is the same for all of them.
    """

    name = "eigencam"
    forward_passes = 1

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """One forward pass; L has both signs."""
        return Maps.of_cam(first_component(forward.A), forward)


class EigenGradCam:
    """The same of g ⊙ A, which knows the class."""

    name = "eigengradcam"
    forward_passes = 1

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """One forward pass and one backward pass through the head."""
        g = engine.feature_gradients(forward, classes)
        return Maps.of_cam(first_component(g * forward.A), forward)


def first_component(A: Tensor) -> Tensor:
    """Project each cell on the first principal component of its image's cells.

    The sign of a singular vector is arbitrary. Taken is the one with which the value of the largest
    magnitude is positive: what stands out is what is bright.

    Args:
        A: (B, K, P, Q).

    Returns:
        (B, P, Q), float32: zeros where all cells are alike, NaN where A is not finite.
    """
    B, K, P, Q = A.shape
    X = A.flatten(2).transpose(1, 2)  # (B, P·Q, K)
    finite = X.isfinite().all(2).all(1)
    # The directions of small matrices are found in double precision, where there is one.
    X = X.nan_to_num(0, 0, 0).to(torch.float32 if A.device.type == "mps" else torch.float64)
    X = X - X[:, :1]  # cells that are alike become zeros without rounding
    X = X - X.mean(1, keepdim=True)
    if K < P * Q:
        v = torch.linalg.eigh(X.transpose(1, 2) @ X).eigenvectors[:, :, -1]
        L = (X @ v[:, :, None])[:, :, 0]
    else:
        # X = U·S·Vᵀ, so X·v = s·u, and the smaller of the two matrices tells s and u.
        values, vectors = torch.linalg.eigh(X @ X.transpose(1, 2))
        L = vectors[:, :, -1] * values[:, -1:].clamp_min(0).sqrt()
    strongest = L.abs().argmax(1, keepdim=True)
    L = L * torch.where(L.gather(1, strongest) < 0, -1, 1)
    L = torch.where(finite[:, None], L, torch.nan)
    return L.view(B, P, Q).float()
