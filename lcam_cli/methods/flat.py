"""Why a map is flat: the same everywhere, so that it does not say where the classifier looked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.errors import LcamError
from lcam_cli.methods.attention import class_activation_map
from lcam_cli.methods.base import flat_maps

# Those whose maps are gradients times features, with what speaks against the class cut off.
_BY_GRADIENT = frozenset(
    {"gradcam", "gradcam++", "xgradcam", "layercam", "smoothgradcam++", "integrated-gradcam"}
    | {"hirescam", "shapleycam"}
)
_SUM_OF_PROBABILITIES = 1e-3


def named_for_flat(name: str, params: Mapping[str, Any]) -> str:
    """The name under which :func:`why_flat` knows a method: none for a contrast or several layers.

    Args:
        name: The method's.
        params: Its settings, as recorded.
    """
    return "" if "contrast" in params or "fuse" in params else name


def why_flat(engine: Engine, method: str, forward: Forward, classes: Tensor) -> str:
    """Find out why a method's maps of some images are flat.

    Args:
        engine: The engine with the classifier.
        method: The method's name, of :func:`named_for_flat`.
        forward: The images, B of them, all with flat maps.
        classes: The classes explained, (B,).

    Returns:
        A reason that holds for all of them, in words; empty where none is known.
    """
    layer = engine.backbone.identity.layer
    if flat_maps(forward.A.flatten(0, 1)).all():
        return (
            f"the features of layer {layer} are the same everywhere, as on an image of one colour"
        )
    return _why_by_gradient(engine, forward, classes) if method in _BY_GRADIENT else ""


def _why_by_gradient(engine: Engine, forward: Forward, classes: Tensor) -> str:
    """The same, of a method whose maps are gradients times features."""
    layer = engine.backbone.identity.layer
    if not forward.logits.any():
        return "all logits are 0, as before training: pass trained --weights"
    try:
        g = engine.feature_gradients(forward, classes)
    except (LcamError, RuntimeError):
        return ""
    # Those that are undone, where what the last step is given cannot be had, vanish as well.
    undone = bool(engine.backbone.identity.probabilities) and not g.any()
    if undone or _are_probabilities(forward.logits):
        return (
            "the network returns probabilities, whose gradients vanish when it is confident: "
            "return logits, without "
            "the softmax or sigmoid at its end"
        )
    if not g.any():
        return (
            f"the scores have no gradient at layer {layer}: its output does not reach them, like a "
            "transformer's patches after the last attention; pass an earlier --layer, or remove "
            "--layer"
        )
    if not _speak_against(forward.A, g).all():
        return ""
    sign = "; --method cam keeps the sign" if engine.backbone.linear_head() else ""
    return f"no feature of layer {layer} raises the score of the class{sign}"


def _are_probabilities(outputs: Tensor) -> bool:
    """Whether outputs (B, R) are what a softmax or a sigmoid gives."""
    between = bool((outputs >= 0).all() and (outputs <= 1).all())
    sure = ((outputs == 0) | (outputs == 1)).any(1).all()
    summed = ((outputs.sum(1) - 1).abs() < _SUM_OF_PROBABILITIES).all()
    return between and bool(sure or summed)


def _speak_against(A: Tensor, g: Tensor) -> Tensor:
    """Of which images no position speaks for the class, (B,)."""
    averaged = class_activation_map(A, g.mean((2, 3)))
    each = (g.relu() * A).sum(1)
    return torch.stack([(L <= 0).flatten(1).all(1) for L in (averaged, each)]).any(0)
