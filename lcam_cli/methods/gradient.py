"""Class activation maps whose channel weights come from gradients at the target layer."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.methods.attention import class_activation_map
from lcam_cli.methods.base import Maps

# The grad-cam package's, so that maps agree with it. It is no mere guard against 0/0: where
# gradients are below about 1e-3 it damps α.
EPSILON = 1e-6

_TINY = 1e-30  # a map of zeros stays one


class GradCam:
    """Grad-CAM (Selvaraju et al., ICCV 2017): α_k = mean_pq g_kpq, L = ReLU(Σ_k α_k A_k)."""

    name = "gradcam"
    forward_passes = 1

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """One forward pass and one backward pass through the head."""
        alpha = engine.feature_gradients(forward, classes).mean((2, 3))
        return Maps.of_cam(class_activation_map(forward.A, alpha).relu(), forward)


class GradCamPlusPlus:
    """Grad-CAM++ (Chattopadhay et al., WACV 2018): L = ReLU(Σ_k α_k A_k).

    a = g²/(2g² + g³·Σ_pq A_k + ε) per position, α_k = Σ_pq a·ReLU(g), ε = 1e-6.
    """

    name = "gradcam++"
    forward_passes = 1

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """One forward pass and one backward pass through the head."""
        g = engine.feature_gradients(forward, classes)
        a = g**2 / (2 * g**2 + g**3 * forward.A.sum((2, 3), keepdim=True) + EPSILON)
        alpha = (a * g.relu()).sum((2, 3))
        return Maps.of_cam(class_activation_map(forward.A, alpha).relu(), forward)


class XGradCam:
    """XGrad-CAM (Fu et al., BMVC 2020): α_k = Σ_pq g·A_k / (Σ_pq A_k + ε), L = ReLU(Σ_k α_k A_k).

    ε = 1e-7, the grad-cam package's.
    """

    name = "xgradcam"
    forward_passes = 1

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """One forward pass and one backward pass through the head."""
        g = engine.feature_gradients(forward, classes)
        alpha = (g * forward.A).sum((2, 3)) / (forward.A.sum((2, 3)) + 1e-7)
        return Maps.of_cam(class_activation_map(forward.A, alpha).relu(), forward)


class LayerCam:
    """LayerCAM (Jiang et al., IEEE TIP 2021): L = ReLU(Σ_k ReLU(g_k)·A_k), a weight a position."""

    name = "layercam"
    forward_passes = 1

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """One forward pass and one backward pass through the head."""
        g = engine.feature_gradients(forward, classes)
        return Maps.of_cam((g.relu() * forward.A).sum(1).relu(), forward)

    @staticmethod
    def scaled(L: Tensor) -> Tensor:
        """Bring maps of several layers to one scale: tanh(2·L/max L) (Eq. 9 of the paper)."""
        return (2 * L / L.amax((1, 2), keepdim=True).clamp_min(_TINY)).tanh()


class HiResCam:
    """HiResCAM (Draelos and Carin, arXiv 2011.08891): L = ReLU(Σ_k g_k·A_k), g not averaged."""

    name = "hirescam"
    forward_passes = 1

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """One forward pass and one backward pass through the head."""
        g = engine.feature_gradients(forward, classes)
        return Maps.of_cam((g * forward.A).sum(1).relu(), forward)
