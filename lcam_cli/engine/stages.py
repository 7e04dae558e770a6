"""The ends of a network's stages: the last feature maps at each resolution."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.tokens import find_layout
from lcam_cli.errors import LcamError


def stage_ends(backbone: Backbone) -> dict[str, int]:
    """Find the last module at each spatial resolution, up to the target layer, largest first.

    Only modules of the trunk count: the network's own children, and those of plain sequences and of
    whatever contains the target layer. What is inside a residual block is no stage's end.

    Returns:
        Their names with their channels K, in the order of the forward pass, the target layer last.

    Raises:
        LcamError: The target layer gives no feature maps, as in a transformer.
    """
    layer = backbone.identity.layer
    ends: dict[tuple[int, int], tuple[str, int]] = {}
    reached: list[str] = []

    def note(name: str, _module: nn.Module, _given: object, output: object) -> None:
        layout = None if reached else find_layout(output)
        if layout is not None and layout.kind == "maps":
            assert isinstance(output, torch.Tensor)
            ends[layout.P, layout.Q] = name, output.shape[1]
        if name == layer:
            reached.append(name)

    handles = [
        module.register_forward_hook(partial(note, name))
        for name, module in _trunk(backbone.network, layer)
    ]
    try:
        with torch.no_grad():
            backbone(backbone.blank())
    finally:
        for handle in handles:
            handle.remove()
    found = dict(ends.values())
    if list(found)[-1:] != [layer]:
        raise LcamError(
            f"{backbone.identity.name} has no stages of feature maps that end in {layer!r}",
            "choose a method that needs one layer alone, or name a convolutional --layer",
        )
    return found


def _trunk(module: nn.Module, layer: str, name: str = "") -> list[tuple[str, nn.Module]]:
    found: list[tuple[str, nn.Module]] = []
    for child_name, child in module.named_children():
        path = f"{name}.{child_name}" if name else child_name
        found.append((path, child))
        if isinstance(child, nn.Sequential) or _holds(path, layer):
            found += _trunk(child, layer, path)
    return found


def _holds(name: str, layer: str) -> bool:
    return layer.startswith(name + ".")
