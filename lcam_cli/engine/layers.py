"""Finding the target layer: the module whose output is A, the feature maps that are explained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from lcam_cli.engine.tokens import find_layout
from lcam_cli.errors import LcamError, did_you_mean

_POOLING = (
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.LPPool2d,
    nn.FractionalMaxPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
)
_PASS_THROUGH = (nn.Dropout, nn.Dropout2d, nn.Identity, nn.Flatten)


@dataclass
class _Event:
    """One module's call, in the order the calls ended."""

    name: str
    module: nn.Module
    given: object
    output: object


def find_target_layer(
    network: nn.Module, picture: torch.Tensor, grid: tuple[int, int] | None = None
) -> str:
    """Return the name of the last features that have a place in the picture.

    In a convolutional network that is the last spatial output before the classifier that no pooling
    made: ``features.29`` in VGG-16, ``layer4`` in ResNet-50, ``features.18`` in MobileNetV2. Where
    a block and its last part give the same output, the block is named, unless it holds the whole
    trunk.

    In a transformer it is the last output whose patches still reach the classifier: the first norm
    of a ViT's last block, behind whose attention only the class token goes on; the last norm where
    patches are averaged.

    Args:
        network: The classifier, in eval mode, frozen.
        picture: One input, (1, 3, H, W).
        grid: P and Q of a transformer's patches, where the user says so.

    Raises:
        LcamError: Nothing spatial reaches the classifier, or tokens of which it is not known where
            they lie.
    """
    with torch.enable_grad():
        # Computed, as networks may change their input in place.
        picture = picture.clone().requires_grad_() * 1
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
        if find_layout(e.output, grid) is not None
        and not isinstance(e.module, _POOLING + _PASS_THROUGH)
        and not any(e.output is p for p in pooled)
        and e.given is not picture
    ]
    for e in before_classifier:
        if isinstance(e.module, nn.LayerNorm) and _is_unknown_list(e.output, grid):
            count = max(cast(torch.Tensor, e.output).shape[:2])
            raise LcamError(
                f"which of the {count} tokens of {e.name} are patches is not known",
                "name the layer and its rows and columns of patches: --layer NAME --grid PxQ",
            )
    if parametrised and any(_is_list(e, grid) for e in candidates):
        candidates = _reaching(events[parametrised[-1]].given, candidates, grid)
    if not candidates:
        raise LcamError(
            "found no convolutional features or patches in this network",
            "name the layer: --layer NAME; for a transformer also its patches: --grid PxQ",
        )
    same = [e for e in candidates if e.output is candidates[-1].output]
    outermost = min(e.name.count(".") for e in same)
    return [e for e in same if e.name.count(".") == outermost][-1].name


def _is_list(event: _Event, grid: tuple[int, int] | None) -> bool:
    layout = find_layout(event.output, grid)
    return layout is not None and layout.kind == "list"


def _is_unknown_list(output: object, grid: tuple[int, int] | None) -> bool:
    """Whether this is a list of one picture's tokens, batch first or not, of unknown layout."""
    if not (torch.is_tensor(output) and output.ndim == 3) or max(output.shape[:2]) == 1:
        return False
    return 1 in output.shape[:2] and find_layout(output, grid) is None


def _reaching(end: object, candidates: list[_Event], grid: tuple[int, int] | None) -> list[_Event]:
    """The candidates up to the last whose patches change ``end``, what the classifier is given.

    The classifier itself is left out of it: as initialised it may be zero.
    """
    if not (torch.is_tensor(end) and end.requires_grad):
        return []
    # Not the sum, which a LayerNorm makes constant.
    weights = torch.randn(end.shape, generator=torch.Generator().manual_seed(0)).to(end)
    total = (end * weights).sum()
    for last in range(len(candidates) - 1, -1, -1):
        event = candidates[last]
        layout = find_layout(event.output, grid)
        # Linear layers inside attention give queries, keys and values: no features of their own.
        if layout is None or layout.P != layout.Q or isinstance(event.module, nn.Linear):
            continue
        output = cast(torch.Tensor, event.output)
        (g,) = torch.autograd.grad(total, output, retain_graph=True, allow_unused=True)
        if g is not None and layout.fold(g).any():
            return candidates[: last + 1]
    return []


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
        module.register_forward_hook(note(name))
        for name, module in network.named_modules()
        if name and not isinstance(module, torch.jit.ScriptModule)  # which takes no hooks
    ]
    try:
        network(picture)
    finally:
        for handle in handles:
            handle.remove()
    return events
