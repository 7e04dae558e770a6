"""Gradient methods that look at changed copies of a picture: noisy ones, or fading to black."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.errors import LcamError
from lcam_cli.methods.attention import class_activation_map
from lcam_cli.methods.base import Maps
from lcam_cli.methods.gradient import EPSILON


class SmoothGradCamPlusPlus:
    """Smooth Grad-CAM++ (Omeiza et al., IntelliSys 2019): Grad-CAM++ on noisy copies.

    D1, D2, D3 are the means over the copies of g, g², g³ at each position;
    a = D2/(2·D2 + D3·Σ_pq A_k + ε), α_k = Σ_pq a·ReLU(D1), L = ReLU(Σ_k α_k A_k), with A that of
    the picture without noise and ε as in Grad-CAM++.

    Args:
        copies: n, the forward passes a map costs.
        sigma: Standard deviation of the noise, as a share of each picture's range of values.
        seed: Of the noise. All pictures, in any batch, get the same, scaled by their range.

    Raises:
        LcamError: A value out of its range.
    """

    name = "smoothgradcam++"

    def __init__(self, copies: int = 25, sigma: float = 0.15, seed: int = 0) -> None:
        _at_least_one("copies", copies)
        self.params: dict[str, Any] = {"copies": copies, "sigma": sigma, "seed": seed}
        self.forward_passes = copies
        self._sigma = sigma
        self._seed = seed

    def draw(self, shape: tuple[int, ...]) -> Tensor:
        """Standard normal noise of ``shape`` (n, C, H, W), on the CPU."""
        return torch.randn(shape, generator=torch.Generator().manual_seed(self._seed))

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """One forward pass a copy, and a backward pass through the head."""
        noise = self.draw((self.forward_passes, *forward.x.shape[1:])).to(
            # In the layout of pictures: sums over two layouts take many times as long.
            engine.device,
            memory_format=engine.backbone.memory_format,
        )
        span = forward.x.amax((1, 2, 3), keepdim=True) - forward.x.amin((1, 2, 3), keepdim=True)

        def noisy(picture: Tensor, copy: Tensor) -> Tensor:
            return torch.addcmul(forward.x[picture], noise[copy], self._sigma * span[picture])

        D1, D2, D3 = (torch.zeros_like(forward.A) for _ in range(3))
        for picture, g in _gradients(engine, forward, classes, self.forward_passes, noisy):
            # Products: a power takes many times as long.
            g2 = g * g
            for D, term in ((D1, g), (D2, g2), (D3, g2 * g)):
                D.index_add_(0, picture, term, alpha=1 / self.forward_passes)
        a = D2 / (2 * D2 + D3 * forward.A.sum((2, 3), keepdim=True) + EPSILON)
        alpha = (a * D1.relu()).sum((2, 3))
        return Maps.of_cam(class_activation_map(forward.A, alpha).relu(), forward)


class IntegratedGradCam:
    """Integrated Grad-CAM (Sattarzadeh et al., ICASSP 2021): α_k averaged from black to X.

    α_k = mean over s = 1/n, 2/n, …, 1 and over positions of g_kpq at s·X, in pixels;
    L = ReLU(Σ_k α_k A_k).

    Args:
        steps: n, the forward passes a map costs.

    Raises:
        LcamError: Fewer than one step.
    """

    name = "integrated-gradcam"

    def __init__(self, steps: int = 20) -> None:
        _at_least_one("steps", steps)
        self.params: dict[str, Any] = {"steps": steps}
        self.forward_passes = steps

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """One forward pass a step, and a backward pass through the head."""

        def faded(picture: Tensor, step: Tensor) -> Tensor:
            return forward.x[picture] * ((step + 1) / self.forward_passes)[:, None, None, None]

        alpha = forward.A.new_zeros(forward.A.shape[:2])
        for picture, g in _gradients(engine, forward, classes, self.forward_passes, faded):
            alpha.index_add_(0, picture, g.mean((2, 3)) / self.forward_passes)
        return Maps.of_cam(class_activation_map(forward.A, alpha).relu(), forward)


def _gradients(
    engine: Engine,
    forward: Forward,
    classes: Tensor,
    copies: int,
    change: Callable[[Tensor, Tensor], Tensor],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Gradients at the target layer for n copies of each picture, in full batches.

    Args:
        engine: The engine with the classifier.
        forward: The pictures.
        classes: (B,), int64.
        copies: n.
        change: Makes copies from indices of pictures (m,) and of copies (m,): (m, C, H, W).

    Yields:
        The picture of each copy, (m,), and g, (m, K, P, Q). Memory does not grow with n.
    """
    order = torch.arange(len(forward.x) * copies, device=forward.x.device)
    for chunk in torch.split(order, engine.batch_size):
        picture = chunk // copies
        copy = engine.forward(change(picture, chunk % copies))
        yield picture, engine.feature_gradients(copy, classes[picture])


def _at_least_one(what: str, value: int) -> None:
    if value < 1:
        raise LcamError(f"a method with {value} {what}", "give at least 1")
