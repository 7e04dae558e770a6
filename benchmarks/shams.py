"""Six sham methods: their maps know nothing of the network, or nothing more than Grad-CAM's.

A measure that ranks one of them above Grad-CAM asks something else than where the network looks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.methods.base import Maps, Method
from lcam_cli.methods.gradient import GradCam

SEED = 0
POWER = 0.2

_SOBEL = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])


class Black:
    """V = 0 everywhere: it hides everything, and its pixels have no order."""

    name = "black"
    forward_passes = 0

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}

    def __call__(self, _engine: Engine, forward: Forward, _classes: Tensor) -> Maps:
        return Maps(torch.zeros_like(forward.x[:, 0]))


class Frame:
    """V = 1 everywhere: the whole frame. It hides nothing, and its pixels have no order."""

    name = "frame"
    forward_passes = 0

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}

    def __call__(self, _engine: Engine, forward: Forward, _classes: Tensor) -> Maps:
        return Maps(torch.ones_like(forward.x[:, 0]))


class Noise:
    """Uniform noise, a number a pixel, and the same for all images: it never moves.

    ``random``, lcam's floor, is noise of a few cells that is drawn anew for each image.
    """

    name = "noise"
    forward_passes = 0

    def __init__(self) -> None:
        self.params: dict[str, Any] = {"seed": SEED}

    def __call__(self, _engine: Engine, forward: Forward, _classes: Tensor) -> Maps:
        B, _, H, W = forward.x.shape
        V = torch.rand(H, W, generator=torch.Generator().manual_seed(SEED))
        return Maps(V.to(forward.x.device).expand(B, H, W).clone())


class MeanColour:
    """How far each pixel's colour is from the image's mean colour: V = ‖X − mean‖₂ / max."""

    name = "mean-colour"
    forward_passes = 0

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}

    def __call__(self, _engine: Engine, forward: Forward, _classes: Tensor) -> Maps:
        x = forward.x
        return Maps(_by_highest((x - x.mean((2, 3), keepdim=True)).norm(dim=1)))


class Edges:
    """The magnitude of Sobel's gradient of the grey image: V = ‖∇X‖₂ / max.

    Adebayo et al. (NeurIPS 2018) show that people take an edge detector's output for an
    explanation.
    """

    name = "edges"
    forward_passes = 0

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}

    def __call__(self, _engine: Engine, forward: Forward, _classes: Tensor) -> Maps:
        grey = pad(forward.x.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        kernels = torch.stack([_SOBEL, _SOBEL.T]).unsqueeze(1).to(grey)
        return Maps(_by_highest(conv2d(grey, kernels).norm(dim=1)))


class Bright:
    """V = Grad-CAM's V^0.2: the same pixels in the same order, only brighter."""

    name = "bright"
    forward_passes = 1

    def __init__(self) -> None:
        self.params: dict[str, Any] = {"power": POWER}
        self._gradcam = GradCam()

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        return Maps(self._gradcam(engine, forward, classes).saliency ** POWER)


SHAMS: tuple[type[Method], ...] = (Black, Frame, Noise, MeanColour, Edges, Bright)


def _by_highest(V: Tensor) -> Tensor:
    """V (B, H, W) by its highest value an image; an image of one colour stays zero."""
    return V / V.amax((1, 2), keepdim=True).clamp_min(torch.finfo(V.dtype).tiny)
