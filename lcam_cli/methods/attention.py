"""L-CAM's attention: a class activation map from one row of weights (Eq. 2-3, 9).

Gkartzonika, Gkalelis, Mezaris: Learning Visual Explanations for DCNN-Based Image Classifiers Using
an Attention Mechanism, ECCV Workshops 2022.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from lcam_cli.engine.grid import Grid


def class_activation_map(A: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """L = Σ_k w_k·A_k + b (Eq. 3), for one row of weights a picture.

    Args:
        A: Feature maps, (B, K, P, Q).
        w: The row of W that belongs to each picture's class, (B, K).
        b: Its bias, (B,).

    Returns:
        L, (B, P, Q). Rows of other classes are never touched, so the cost does not depend on R.
    """
    L = torch.einsum("bk,bkpq->bpq", w.to(A.dtype), A)
    return L if b is None else L + b.to(A.dtype)[:, None, None]


def min_max(L: Tensor) -> Tensor:
    """ζ: scale each map of (B, H, W) to [0, 1]; a constant map becomes zeros, NaN stays NaN."""
    low = L.amin((1, 2), keepdim=True)
    span = L.amax((1, 2), keepdim=True) - low
    flat = span == 0
    return torch.where(flat, 0, (L - low) / torch.where(flat, 1, span))


def upsample(maps: Tensor, size: int | tuple[int, int], grid: Grid | None = None) -> Tensor:
    """θ: bilinear resize of (B, P, Q) to (B, H, W).

    Args:
        maps: (B, P, Q).
        size: H and W in pixels.
        grid: Where the cells lie. None tiles the pixels evenly with them (``align_corners=False``).
    """
    height, width = (size, size) if isinstance(size, int) else size
    if grid is not None:
        down, across = (
            _interpolation(pixels, cells, grid).to(maps)
            for pixels, cells in ((height, maps.shape[1]), (width, maps.shape[2]))
        )
        return down @ maps @ across.T
    return F.interpolate(
        maps.unsqueeze(1), (height, width), mode="bilinear", align_corners=False
    ).squeeze(1)


def _interpolation(pixels: int, cells: int, grid: Grid) -> Tensor:
    """Linear interpolation between cell centres as a matrix (pixels, cells), level beyond them."""
    place = ((torch.arange(pixels) - grid.start) / grid.step).clamp(0, cells - 1)
    return (1 - (place[:, None] - torch.arange(cells)).abs()).clamp_min(0)


def saliency_map(L: Tensor, size: int | tuple[int, int], grid: Grid | None = None) -> Tensor:
    """V = θ(ζ(L)) (Eq. 9): (B, P, Q) to (B, H, W) in [0, 1]; for ``grid`` see :func:`upsample`."""
    return upsample(min_max(L), size, grid)


class Attention:
    """The trained attention: W (R, K) and b (R,).

    Attributes:
        W: One row of weights a class, (R, K), float32.
        b: One bias a class, (R,), float32.
    """

    def __init__(self, W: Tensor, b: Tensor) -> None:
        self.W = W
        self.b = b

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> Attention:
        """Make it from a file's tensors.

        Raises:
            ValueError: They are not of these names and shapes; says which are needed.
        """
        W, b = tensors.get("weight"), tensors.get("bias")
        if W is None or b is None or W.ndim != 2 or b.shape != W.shape[:1]:
            raise ValueError("a weight (R, K) and a bias (R,)")
        return cls(W, b)

    def tensors(self) -> dict[str, Tensor]:
        """What goes into a file."""
        return {"weight": self.W, "bias": self.b}

    @property
    def channels(self) -> int:
        """K."""
        return self.W.shape[1]

    @property
    def classes(self) -> int:
        """R."""
        return len(self.W)

    def __call__(self, A: Tensor, classes: Tensor) -> Tensor:
        """L of Eq. 2 for feature maps (B, K, P, Q) and classes (B,): (B, P, Q)."""
        return class_activation_map(A, self.W[classes], self.b[classes])

    def to(self, device: torch.device) -> Attention:
        """The same attention on another device."""
        return Attention(self.W.to(device), self.b.to(device))
