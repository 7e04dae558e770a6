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
    """L = Σ_k w_k·A_k + b (Eq. 3), for one row of weights an image.

    Args:
        A: Feature maps, (B, K, P, Q).
        w: The row of W that belongs to each image's class, (B, K).
        b: Its bias, (B,).

    Returns:
        L, (B, P, Q). Rows of other classes are never touched, so the cost does not depend on R.
    """
    L = torch.einsum("bk,bkpq->bpq", w.to(A.dtype), A)
    return L if b is None else L + b.to(A.dtype)[:, None, None]


def spread(L: Tensor, kernel: Tensor | None) -> Tensor:
    """Let each cell speak for its neighbourhood, with one small kernel for all classes.

    A cell's own features do not say how much of what surrounds it the classifier needs. Ours, not
    the paper's: cell (p, q) becomes Σ_ij g[i, j]·L[p + i − m, q + j − m] with m = (n − 1)/2, as
    networks convolve. The edges are repeated outwards, so that a flat map stays flat.

    Args:
        L: Maps, (B, P, Q).
        kernel: g, (n, n) with n odd; None leaves L as it is.

    Returns:
        (B, P, Q).
    """
    if kernel is None:
        return L
    margin = len(kernel) // 2
    padded = F.pad(L.unsqueeze(1), (margin,) * 4, mode="replicate")
    return F.conv2d(padded, kernel.to(L.dtype)[None, None]).squeeze(1)


def is_kernel(tensor: Tensor) -> bool:
    """Whether a tensor can be the kernel of :func:`spread`."""
    return tensor.ndim == 2 and tensor.shape[0] == tensor.shape[1] and tensor.shape[0] % 2 == 1


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
            _interpolation(pixels, cells, grid.start[axis], grid.step[axis]).to(maps)
            for axis, (pixels, cells) in enumerate(
                ((height, maps.shape[1]), (width, maps.shape[2]))
            )
        )
        return down @ maps @ across.T
    return F.interpolate(
        maps.unsqueeze(1), (height, width), mode="bilinear", align_corners=False
    ).squeeze(1)


def _interpolation(pixels: int, cells: int, start: float, step: float) -> Tensor:
    """Linear interpolation between cell centres as a matrix (pixels, cells), level beyond them."""
    place = ((torch.arange(pixels) - start) / step).clamp(0, cells - 1)
    return (1 - (place[:, None] - torch.arange(cells)).abs()).clamp_min(0)


def saliency_map(L: Tensor, size: int | tuple[int, int], grid: Grid | None = None) -> Tensor:
    """V = θ(ζ(L)) (Eq. 9): (B, P, Q) to (B, H, W) in [0, 1]; for ``grid`` see :func:`upsample`."""
    return upsample(min_max(L), size, grid)


class Attention:
    """The trained attention: W (R, K), b (R,), and maybe a kernel g that all classes share.

    Attributes:
        W: One row of weights a class, (R, K), float32.
        b: One bias a class, (R,), float32.
        kernel: g of :func:`spread`, (n, n), float32; None for the paper's L-CAM.
    """

    def __init__(self, W: Tensor, b: Tensor, kernel: Tensor | None = None) -> None:
        self.W = W
        self.b = b
        self.kernel = kernel

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> Attention:
        """Make it from a file's tensors.

        Raises:
            ValueError: They are not of these names and shapes; says which are needed.
        """
        W, b, kernel = tensors.get("weight"), tensors.get("bias"), tensors.get("kernel")
        if W is None or b is None or W.ndim != 2 or b.shape != W.shape[:1]:
            raise ValueError("a weight (R, K) and a bias (R,)")
        if kernel is not None and not is_kernel(kernel):
            raise ValueError("a kernel (n, n) with n odd")
        return cls(W, b, kernel)

    def tensors(self) -> dict[str, Tensor]:
        """What goes into a file."""
        kernel = {} if self.kernel is None else {"kernel": self.kernel}
        return {"weight": self.W, "bias": self.b, **kernel}

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
        return spread(class_activation_map(A, self.W[classes], self.b[classes]), self.kernel)

    def to(self, device: torch.device) -> Attention:
        """The same attention on another device."""
        kernel = None if self.kernel is None else self.kernel.to(device)
        return Attention(self.W.to(device), self.b.to(device), kernel)
