"""The ends of a network's stages: the last feature maps at each resolution."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.calls import hook
from lcam_cli.engine.tokens import Clues, Layout, find_layout
from lcam_cli.errors import CannotExplainError


@dataclass(frozen=True)
class _Maps:
    """What a module of the trunk gave: its layout, None where it has no places, and K."""

    name: str
    layout: Layout | None
    channels: int


def stage_ends(backbone: Backbone) -> dict[str, int]:
    """Find the last module at each spatial resolution, up to the target layer, largest first.

    Only modules of the trunk count: the network's own children, and those of plain sequences and of
    whatever contains the target layer. What is inside a residual block is no stage's end. A module
    that runs several times has one place, its last call on the way to the target layer.

    Returns:
        Their names with their channels K, in the order of the forward pass, the target layer last.

    Raises:
        CannotExplainError: The target layer gives no feature maps, as in a transformer.
    """
    layer = backbone.identity.layer
    clues = Clues.of(backbone.network, backbone.preprocess.input_shape[1:])
    outputs: list[_Maps] = []

    def note(name: str, output: object) -> None:
        layout = find_layout(output, None, clues)
        channels = output.shape[1] if torch.is_tensor(output) and layout is not None else 0
        outputs.append(_Maps(name, layout, channels))

    with torch.no_grad(), hook(backbone.network, _trunk(backbone.network, layer), note):
        backbone(backbone.blank())
    calls = [i for i, maps in enumerate(outputs) if maps.name == layer]
    (target,) = backbone.calls_of([layer])
    way = outputs[: calls[-1 - target.later] + 1] if target.later < len(calls) else []
    last = {maps.name: i for i, maps in enumerate(way) if _is_maps(maps)}
    ends = {
        (maps.layout.P, maps.layout.Q): maps
        for i, maps in enumerate(way)
        if maps.layout is not None and last.get(maps.name) == i
    }
    found = {maps.name: maps.channels for maps in ends.values()}
    if list(found)[-1:] != [layer]:
        raise CannotExplainError(
            f"{backbone.identity.name} has no stages of feature maps that end in {layer!r}",
            "use a method that needs only one layer, or pass a convolutional --layer",
            "pass a convolutional --layer, if it has one",
        )
    return found


def _is_maps(maps: _Maps) -> bool:
    return maps.layout is not None and maps.layout.kind == "maps"


def _trunk(module: nn.Module, layer: str, name: str = "") -> list[str]:
    found: list[str] = []
    for child_name, child in module.named_children():
        path = f"{name}.{child_name}" if name else child_name
        found.append(path)
        if isinstance(child, nn.Sequential) or _holds(path, layer):
            found += _trunk(child, layer, path)
    return found


def _holds(name: str, layer: str) -> bool:
    return layer.startswith(name + ".")
