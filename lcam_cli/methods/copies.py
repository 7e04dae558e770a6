"""Gradient methods that look at changed copies of an image: noisy ones, or fading to black."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.methods.attention import class_activation_map
from lcam_cli.methods.base import Maps, at_least_one
from lcam_cli.methods.gradient import EPSILON


class SmoothGradCamPlusPlus:
    """Smooth Grad-CAM++ (Omeiza et al., IntelliSys 2019): Grad-CAM++ on noisy copies.

    D1, D2, D3 are the means over the copies of g, g², g³ at each position;
    a = D2/(2·D2 + D3·Σ_pq A_k + ε), α_k = Σ_pq a·ReLU(D1), L = ReLU(Σ_k α_k A_k), with A that of
    the image without noise and ε as in Grad-CAM++. The denominator's two terms cancel where
    features are negative, as a transformer's are, and what is left is rounding: it is at least a
    twentieth of their magnitudes, with its sign.

    Args:
        copies: n, the forward passes a map costs.
        sigma: Standard deviation of the noise, as a share of each image's range of values.
        seed: Of the noise. All images, in any batch, get the same, scaled by their range.

    Raises:
        LcamError: A value out of its range.
    """

    name = "smoothgradcam++"

    def __init__(self, copies: int = 25, sigma: float = 0.15, seed: int = 0) -> None:
        at_least_one("copies", copies)
        self.params: dict[str, Any] = {"copies": copies, "sigma": sigma, "seed": seed}
        self.forward_passes = copies
        self._sigma = sigma
        self._seed = seed
        self._noise: tuple[object, Tensor] | None = None  # and what it was drawn for

    def draw(self, shape: tuple[int, ...]) -> Tensor:
        """Standard normal noise of ``shape`` (n, C, H, W), on the CPU."""
        return torch.randn(shape, generator=torch.Generator().manual_seed(self._seed))

    def _normalised_noise(self, engine: Engine, shape: tuple[int, ...]) -> Tensor:
        """σ·noise/std, (n, C, H, W): what noise is once an image is normalised.

        It is kept, as it is the same for every batch.
        """
        std = engine.backbone.preprocess.std
        drawn_for = (shape, std, engine.device)
        if self._noise is None or self._noise[0] != drawn_for:
            noise = self.draw((self.forward_passes, *shape)).to(
                # In the layout of images: sums over two layouts take many times as long.
                engine.device,
                memory_format=engine.backbone.memory_format,
            )
            noise *= self._sigma / torch.tensor(std, device=engine.device)[:, None, None]
            self._noise = drawn_for, noise
        return self._noise[1]

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """One forward pass a copy, and a backward pass through the head."""
        x = engine.normalise(forward.x)
        span = forward.x.amax((1, 2, 3), keepdim=True) - forward.x.amin((1, 2, 3), keepdim=True)
        noise = self._normalised_noise(engine, x.shape[1:])

        def noisy(picture: int, copies: slice, out: Tensor) -> None:
            torch.addcmul(x[picture], noise[copies], span[picture], out=out)

        D1, D2, D3 = (torch.zeros_like(forward.A) for _ in range(3))
        for mean, g in _gradients(engine, forward, classes, self.forward_passes, noisy):
            # Products: a power takes many times as long.
            g2 = g * g
            for D, term in ((D1, g), (D2, g2), (D3, g2 * g)):
                D.add_(mean(term))
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
        at_least_one("steps", steps)
        self.params: dict[str, Any] = {"steps": steps}
        self.forward_passes = steps

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """One forward pass a step, and a backward pass through the head."""
        x = engine.normalise(forward.x)
        black = engine.normalise(torch.zeros_like(forward.x[:1]))
        steps = torch.arange(1, self.forward_passes + 1, device=x.device) / self.forward_passes

        def faded(picture: int, copies: slice, out: Tensor) -> None:
            torch.lerp(black, x[picture], steps[copies, None, None, None], out=out)

        alpha = forward.A.new_zeros(forward.A.shape[:2])
        for mean, g in _gradients(engine, forward, classes, self.forward_passes, faded):
            alpha += mean(g.mean((2, 3)))
        return Maps.of_cam(class_activation_map(forward.A, alpha).relu(), forward)


def _gradients(
    engine: Engine,
    forward: Forward,
    classes: Tensor,
    copies: int,
    change: Callable[[int, slice, Tensor], None],
) -> Iterator[tuple[Callable[[Tensor], Tensor], Tensor]]:
    """Gradients at the target layer for n copies of each image, in full batches.

    Args:
        engine: The engine with the classifier.
        forward: The images, B of them.
        classes: (B,), int64.
        copies: n.
        change: Writes some copies of an image, normalised, to a tensor (m, C, H, W).

    Yields:
        g, (m, K, P, Q), of copies of one image or several, and what makes of values (m, ...) of
        theirs their share of the mean over an image's copies: (B, ...). Memory does not grow with
        n.
    """
    B, size = len(forward.x), engine.limit or engine.batch_size
    given = torch.empty(
        (min(size, B * copies), *forward.x.shape[1:]),
        device=forward.x.device,
        memory_format=engine.backbone.memory_format,
    )
    for start in range(0, B * copies, len(given)):
        stop = min(start + len(given), B * copies)
        for picture in range(start // copies, (stop - 1) // copies + 1):
            first, last = max(start, picture * copies), min(stop, (picture + 1) * copies)
            which = slice(first - picture * copies, last - picture * copies)
            change(picture, which, given[first - start : last - start])
        owner = torch.arange(start, stop, device=forward.x.device) // copies
        # Near classes are those of the images themselves.
        contrast = forward.contrast and forward.contrast.only(owner)
        g = engine.gradients_at_layer(given[: stop - start], classes[owner], contrast)
        yield partial(_share, F.one_hot(owner, B).T / copies), g


def _share(weights: Tensor, values: Tensor) -> Tensor:
    """Weights (B, m) times values (m, ...)."""
    return (weights @ values.flatten(1)).view(len(weights), *values.shape[1:])
