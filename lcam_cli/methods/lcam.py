"""L-CAM: one row of the trained attention on the feature maps (Eq. 2-3, 9)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.methods.attention import Attention
from lcam_cli.methods.base import Maps


class LCam:
    """L-CAM-Fm and L-CAM-Img, which differ in training alone."""

    forward_passes = 1

    def __init__(self, attention: Attention, name: str, params: dict[str, Any]) -> None:
        self.name = name
        self.params = params
        self._attention = attention

    def __call__(self, engine: Engine, seen: Forward, classes: Tensor) -> Maps:
        """V = θ(ζ(L)) on the raw L, without the sigmoid that training may put on it."""
        self._attention = self._attention.to(engine.device)
        return Maps.of_cam(self._attention(seen.A, classes), seen)
