"""Methods whose gradients are those of a contrast with near classes, and Finer-CAM.

Zhang et al.: Finer-CAM: Spotting the Difference Reveals Finer Details for Visual Explanation, CVPR
2025 (arXiv 2501.11309).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from lcam_cli.engine.contrast import Contrast
from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.methods.base import Maps, Method, first_pass


class Contrasted:
    """A method of gradients, where a contrast takes the place of the logit of the class.

    The contrast goes with the forward pass, to whatever of the engine takes gradients.

    Args:
        method: The method.
        contrast: Its settings.
        name: What it is called; default the method's name.

    Attributes:
        layers: Those whose maps are fused; one for most methods.
    """

    def __init__(self, method: Method, contrast: Contrast, name: str = "") -> None:
        self.name = name or method.name
        self.params: dict[str, Any] = {**method.params, "contrast": str(contrast)}
        self.forward_passes = method.forward_passes
        self.layers: list[str] = getattr(method, "layers", [])
        self.whole_graph: bool = getattr(method, "whole_graph", False)
        self._method = method
        self._contrast = contrast

    def first_pass(self, engine: Engine, x: Tensor) -> Forward:
        """As the method."""
        return first_pass(engine, self._method, x)

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """As the method, of the contrast."""
        contrast = self._contrast.of(forward.logits)
        return self._method(engine, replace(forward, contrast=contrast), classes)


FINER = Contrast(3, 1.0)
"""Finer-CAM's own."""
