"""Pixel methods: gradients of the class score at the image, through the whole network.

X are pixels in [0, 1], before the classifier's mean and standard deviation, and black is 0. Maps
are drawn at the input's size; there are no cells.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lcam_cli.engine.backward import forward_with_graph
from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.engine.picture_gradients import graph_from_pixels, picture_gradients
from lcam_cli.methods.attention import min_max
from lcam_cli.methods.base import Maps, at_least_one
from lcam_cli.methods.noise import checksums


class _OfGradient:
    """A method of the gradient at the images themselves: their first pass serves for it."""

    forward_passes = 1
    whole_graph = True

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}

    def first_pass(self, engine: Engine, x: Tensor) -> Forward:
        """A forward pass, and its graph down to the pixels."""
        return forward_with_graph(engine, x, partial(graph_from_pixels, engine))


class Saliency(_OfGradient):
    """Saliency (Simonyan et al., ICLR Workshops 2014): V = ζ(max_c |∂f_y/∂X_c|)."""

    name = "saliency"

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """A forward and a backward pass through the whole network."""
        return Maps(min_max(_gradient(engine, forward, classes).abs().amax(1)))


class InputXGradient(_OfGradient):
    """Input times gradient (Shrikumar et al., arXiv 1605.01713): V = ζ(Σ_c |X_c·∂f_y/∂X_c|)."""

    name = "inputxgradient"

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """A forward and a backward pass through the whole network."""
        return _summed(forward.x * _gradient(engine, forward, classes))


class IntegratedGradients:
    """Integrated gradients (Sundararajan et al., ICML 2017) from black to the image.

    V = ζ(Σ_c |X_c·mean_s ∂f_y/∂X_c at s·X|) over s = 1/n, 2/n, …, 1: the right Riemann sum.

    Args:
        steps: n, the forward passes a map costs.

    Raises:
        LcamError: Fewer than one step.
    """

    name = "ig"

    def __init__(self, steps: int = 50) -> None:
        at_least_one("steps", steps)
        self.params: dict[str, Any] = {"steps": steps}
        self.forward_passes = steps

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """A forward and a backward pass through the whole network a step."""

        def at(picture: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
            x = forward.x[picture]
            return x * _over_pixels((step + 1) / self.forward_passes), x

        return _summed(_mean_gradient(engine, forward, classes, self.forward_passes, at))


class SmoothGrad:
    """SmoothGrad (Smilkov et al., arXiv 1706.03825): V = ζ(Σ_c |mean over draws of ∂f_y/∂X_c|).

    Args:
        draws: Noisy copies, the forward passes a map costs.
        sigma: Standard deviation of the noise, as a share of each image's range of values.
        seed: Of the noise; what an image gets depends on nothing but this and the image.

    Raises:
        LcamError: Fewer than one draw.
    """

    name = "smoothgrad"

    def __init__(self, draws: int = 50, sigma: float = 0.15, seed: int = 0) -> None:
        at_least_one("draws", draws)
        self.params: dict[str, Any] = {"draws": draws, "sigma": sigma, "seed": seed}
        self.forward_passes = draws
        self._sigma = sigma
        self._draws = Draws(seed)

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """A forward and a backward pass through the whole network a draw."""
        x = forward.x
        sigma = self._sigma * (x.amax((1, 2, 3)) - x.amin((1, 2, 3)))
        noise = self._draws.of(x)

        def at(picture: Tensor, draw: Tensor) -> tuple[Tensor, None]:
            return x[picture] + _over_pixels(sigma[picture]) * noise.normal(picture, draw), None

        return _summed(_mean_gradient(engine, forward, classes, self.forward_passes, at))


class GradientShap:
    """GradientSHAP (Lundberg & Lee, NeurIPS 2017; expected gradients of the shap package).

    V = ζ(Σ_c |mean over draws of (X_c − b_c)·∂f_y/∂X_c at b + t·(X − b)|), t uniform in [0, 1]. The
    baseline b of even draws is black, that of odd ones uniform noise in [0, 1].

    Args:
        draws: The forward passes a map costs.
        seed: Of baselines and t; what an image gets depends on nothing but this and the image.

    Raises:
        LcamError: Fewer than one draw.
    """

    name = "gradientshap"

    def __init__(self, draws: int = 20, seed: int = 0) -> None:
        at_least_one("draws", draws)
        self.params: dict[str, Any] = {"draws": draws, "seed": seed}
        self.forward_passes = draws
        self._draws = Draws(seed)

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """A forward and a backward pass through the whole network a draw."""
        drawn = self._draws.of(forward.x)

        def at(picture: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
            baseline, t = drawn.baselines(picture, draw)
            away = forward.x[picture] - baseline
            return baseline + _over_pixels(t) * away, away

        return _summed(_mean_gradient(engine, forward, classes, self.forward_passes, at))


class Draws:
    """Noise for images: each of its draws comes from the seed, the image and its number.

    So a map depends on no batch, order or rank, and no noise is kept.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def of(self, x: Tensor) -> DrawsOfBatch:
        """Those of pixels (B, C, H, W) in [0, 1]."""
        return DrawsOfBatch(self._seed, x)


class DrawsOfBatch:
    """Noise for the images of one batch; shaped and placed as they are."""

    def __init__(self, seed: int, x: Tensor) -> None:
        self._seed, self._x, self._checksums = seed, x, checksums(x)

    def normal(self, picture: Tensor, draw: Tensor) -> Tensor:
        """Standard normal noise for draws (m,) of images (m,): (m, C, H, W)."""
        noise = torch.empty((len(picture), *self._x.shape[1:]))
        for one, generator in zip(noise, self._generators(picture, draw), strict=True):
            one.normal_(generator=generator)
        return noise.to(self._x.device)

    def baselines(self, picture: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
        """Where draws (m,) of images (m,) begin, (m, C, H, W), and how far they go, t (m,)."""
        baseline, t = torch.zeros((len(picture), *self._x.shape[1:])), torch.empty(len(picture))
        is_noise = (draw % 2).tolist()
        for i, generator in enumerate(self._generators(picture, draw)):
            t[i].uniform_(generator=generator)
            if is_noise[i]:
                baseline[i].uniform_(generator=generator)
        return baseline.to(self._x.device), t.to(self._x.device)

    def _generators(self, picture: Tensor, draw: Tensor) -> list[torch.Generator]:
        return [
            torch.Generator().manual_seed(
                int(
                    np.random.SeedSequence([self._seed, self._checksums[p], d]).generate_state(1)[0]
                )
            )
            for p, d in zip(picture.tolist(), draw.tolist(), strict=True)
        ]


def _gradient(engine: Engine, forward: Forward, classes: Tensor) -> Tensor:
    """∂f_y/∂X at the images, (B, C, H, W); one for all methods that want it."""

    def gradients() -> Tensor:
        return picture_gradients(engine, forward.x, classes, forward.contrast, forward.graph)

    if forward.shared is None:
        return gradients()
    return forward.shared.get(("picture", str(forward.contrast)), classes, gradients)


def _mean_gradient(
    engine: Engine,
    forward: Forward,
    classes: Tensor,
    copies: int,
    at: Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]],
) -> Tensor:
    """The mean over changed copies of each image of the gradient there, or times a factor.

    Batches are full, across images and copies, and memory does not grow with the copies.

    Args:
        engine: The engine with the classifier.
        forward: The images, B of them.
        classes: (B,), int64.
        copies: n.
        at: Makes copies from indices of images (m,) and of copies (m,): (m, C, H, W), and what to
            multiply the gradients there by, shaped alike; None for nothing.

    Returns:
        (B, C, H, W), float32.
    """
    total = torch.zeros_like(forward.x)
    order = torch.arange(len(forward.x) * copies, device=forward.x.device)
    for chunk in torch.split(order, engine.limit or engine.batch_size):
        picture = chunk // copies
        copy, factor = at(picture, chunk % copies)
        # Near classes are those of the images themselves.
        contrast = forward.contrast and forward.contrast.only(picture)
        g = picture_gradients(engine, copy, classes[picture], contrast)
        total.index_add_(0, picture, g if factor is None else g * factor)
    return total / copies


def _summed(attribution: Tensor) -> Maps:
    """V of a signed attribution a channel, (B, C, H, W): absolute values, summed."""
    return Maps(min_max(attribution.abs().sum(1)))


def _over_pixels(values: Tensor) -> Tensor:
    """Numbers (m,), to multiply images (m, C, H, W) by."""
    return values[:, None, None, None]
