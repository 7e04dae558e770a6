"""Finding the target layer: the module whose output is A, the feature maps that are explained."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from lcam_cli.errors import LcamError, did_you_mean

_POOLING = (
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.LPPool2d,
    nn.FractionalMaxPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
)
_PASS_THROUGH = (nn.Dropout, nn.Dropout2d, nn.Identity)


@dataclass
class _Event:
    """One module's call, in the order the calls ended."""

    name: str
    module: nn.Module
    given: object
    output: object


def find_target_layer(network: nn.Module, picture: torch.Tensor) -> str:
    """Return the name of the last convolutional features.

    That is the last spatial output before the classifier that no pooling made: ``features.29`` in
    VGG-16, ``layer4`` in ResNet-50, ``features.18`` in MobileNetV2. Where a block and its last part
    give the same output, the block is named, unless it holds the whole trunk.

    Args:
        network: The classifier, in eval mode.
        picture: One input, (1, 3, H, W).

    Raises:
        LcamError: Nothing spatial reaches the classifier.
    """
    events = _record(network, picture)
    parametrised = [
        i
        for i, e in enumerate(events)
        if not any(True for _ in e.module.children()) and any(True for _ in e.module.parameters())
    ]
    before_classifier = events[: parametrised[-1]] if parametrised else events
    pooled = [e.output for e in events if isinstance(e.module, _POOLING)]
    candidates = [
        e
        for e in before_classifier
        if _is_spatial(e.output)
        and not isinstance(e.module, _POOLING + _PASS_THROUGH)
        and not any(e.output is p for p in pooled)
        and e.given is not picture
    ]
    if not candidates:
        raise LcamError(
            "found no convolutional features in this network", "name the layer: --layer NAME"
        )
    same = [e for e in candidates if e.output is candidates[-1].output]
    outermost = min(e.name.count(".") for e in same)
    return [e for e in same if e.name.count(".") == outermost][-1].name


def stage_ends(network: nn.Module, picture: torch.Tensor, layer: str, count: int) -> list[str]:
    """Return where the stages of a network end: the last layer at each resolution.

    ``layer2``, ``layer3`` and ``layer4`` of ResNet-50, ``features.6``, ``.13`` and ``.18`` of
    MobileNetV2. Looked at are the layers on the way to the target layer: its neighbours, and those
    of the modules that hold it.

    Args:
        network: The classifier, in eval mode.
        picture: One input, (1, 3, H, W).
        layer: The target layer, which ends the last stage.
        count: How many stages, from the last.

    Returns:
        At most ``count`` names, in the order of the network; the target layer is the last.
    """
    events = _record(network, picture)
    end = max(i for i, e in enumerate(events) if e.name == layer)
    ends: dict[tuple[int, ...], str] = {}
    for event in events[: end + 1]:
        output = event.output
        on_the_way = f"{layer}.".startswith(event.name.rpartition(".")[0] + ".")
        if not ((on_the_way or "." not in event.name) and _is_spatial(output)):
            continue
        assert isinstance(output, torch.Tensor)
        ends[tuple(output.shape[2:])] = event.name
    return list(ends.values())[-count:]


def check_layer(network: nn.Module, layer: str) -> None:
    """Check that the network has a module of that name.

    Raises:
        LcamError: It has not; the message names near ones.
    """
    names = [name for name, _ in network.named_modules() if name]
    if layer not in names:
        top = ", ".join(name for name, _ in network.named_children())
        raise LcamError(
            f"no layer {layer!r} in this network",
            f"{did_you_mean(layer, names)} Its parts: {top}.".strip(),
        )


def _record(network: nn.Module, picture: torch.Tensor) -> list[_Event]:
    events: list[_Event] = []

    def note(name: str) -> object:
        def hook(module: nn.Module, given: tuple[object, ...], output: object) -> None:
            # Outputs stay referenced here, so `is` compares live tensors.
            events.append(_Event(name, module, given[0] if given else None, output))

        return hook

    handles = [
        module.register_forward_hook(note(name)) for name, module in network.named_modules() if name
    ]
    try:
        with torch.no_grad():
            network(picture)
    finally:
        for handle in handles:
            handle.remove()
    return events


def _is_spatial(output: object) -> bool:
    return torch.is_tensor(output) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1
