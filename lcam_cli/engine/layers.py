"""Finding the target layer: the call of a module whose output is A, the maps that are explained.

It is found by what reaches the logits (``engine.flow``), or named by the user and checked. A
transformer's patches must be known as such (``engine.patches``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lcam_cli.engine.calls import Call
from lcam_cli.engine.events import Event
from lcam_cli.engine.flow import Flow, OnePass, random_logits
from lcam_cli.engine.layer_calls import LayerCall, find_layer_calls, resolve_layer
from lcam_cli.engine.patches import (
    GRID_HINT,
    grid_that_fits,
    refuse_doubtful_square,
    refuse_other_grid,
    refuse_other_order,
    refuse_unknown_tokens,
    with_other_corners,
)
from lcam_cli.engine.tokens import Layout
from lcam_cli.errors import CannotExplainError, LcamError
from lcam_cli.networks.foreign import ForeignNetwork
from lcam_cli.networks.torchscript import inside_script, scripts_in
from lcam_cli.networks.wrappers import plain_layer

SCORES_ALONE = (
    "use rise, occlusion or random without --layer (they need only scores); for other methods "
    "pass the network itself, or torch.export it"
)
"""The hint where there is no layer to look at."""


@dataclass(frozen=True)
class Target:
    """The target layer.

    Attributes:
        call: The module, and which of its calls.
        layout: How what it gives is read as A (B, K, P, Q).
        in_place: Whether the module changes what it is given and gives it back: then whoever else
            holds that sees A too.
        switches_gradients_off: Whether the network's own code does somewhere.
        layer_calls: Those that count, of all layers that run, by name.
    """

    call: Call
    layout: Layout
    in_place: bool
    switches_gradients_off: bool
    layer_calls: dict[str, LayerCall]


def choose_target(
    network: nn.Module,
    name: str,
    layer: str | None,
    picture: Tensor,
    grid: tuple[int, int] | None,
) -> Target | None:
    """The target layer, typed or found; None where a compiled or foreign network shows none.

    Args:
        network: The classifier, in eval mode, frozen.
        name: What the user calls it, for messages.
        layer: The layer's name as typed; None to find one.
        picture: One input, (1, C, H, W).
        grid: P and Q of a transformer's patches, where the user says so.

    Raises:
        LcamError: As :func:`locate_target` and :func:`find_target`; or the layer lies in a
            TorchScript module.
    """
    if isinstance(network, ForeignNetwork) and layer is None:
        return None
    if layer is not None:
        layer = plain_layer(network, layer)
        if inside_script(network, layer):
            raise LcamError(
                f"layer {layer!r} of {name} is in a TorchScript module, whose layers are "
                "not accessible",
                SCORES_ALONE,
            )
        return locate_target(network, layer, picture, grid)
    try:
        return find_target(network, picture, grid)
    except LcamError:
        if not (scripts_in(network) or _is_quantised(network)):
            raise
    return None


def target_by_gradients(
    network: nn.Module, picture: Tensor, grid: tuple[int, int] | None
) -> tuple[Target, OnePass] | None:
    """The target layer as :func:`find_target` finds it, by one pass and its gradients alone.

    That A put back in its place gives the logits is left to whoever cuts the network there.

    Args:
        network: The classifier, in eval mode, frozen.
        picture: One input, (1, C, H, W).
        grid: P and Q of a transformer's patches, where the user says so.

    Returns:
        The layer, and what the pass gave; None where more has to be tried.
    """
    if any(True for _ in _zero_weights(network)):
        return None
    try:
        flow = Flow(network, picture, grid)
        found = flow.last(by_gradients_alone=True)
        known = flow.pass_at(found)
        return None if known is None else (_checked_target(flow, found), known)
    except LcamError:  # of which find_target tells
        return None


def no_layer(network: nn.Module, name: str, method: str) -> CannotExplainError:
    """What to say of a method that looks at a layer, and a network that shows none."""
    if isinstance(network, ForeignNetwork):
        return CannotExplainError(
            f"{method} needs a target layer, but {name} has no feature maps by default",
            f"use rise, occlusion or random, which need none; {network.no_layer}",
            network.no_layer,
        )
    scripts = scripts_in(network)
    parts = [part for part in scripts if part]
    remedy = f"if it returns feature maps, pass --layer {parts[-1]}" if parts else ""
    if _is_quantised(network):
        why = f"the layers of {name} are quantised: they do not return real numbers"
    else:
        script = "TorchScript" if "" in scripts else "partly TorchScript"
        why = f"{name} is {script}, whose layers are not accessible"
    hint = f"{remedy}; {SCORES_ALONE}" if remedy else SCORES_ALONE
    return CannotExplainError(f"{method} needs a target layer, but {why}", hint, remedy)


def find_target(network: nn.Module, picture: Tensor, grid: tuple[int, int] | None = None) -> Target:
    """Find the last features that have a place in the image and that the logits depend on.

    In a convolutional network that is the last spatial output before the classifier that no pooling
    made: ``features.29`` in VGG-16, ``layer4`` in ResNet-50, ``features.18`` in MobileNetV2. Maps
    of class scores, which only wait to be averaged, belong to the classifier. Where a block and its
    last part give the same output, the block is named, unless it holds the whole trunk.

    In a transformer it is the last output whose patches still reach the classifier: the first norm
    of a ViT's last block, behind whose attention only the class token goes on; the last norm where
    patches are averaged.

    Args:
        network: The classifier, in eval mode, frozen.
        picture: One input, (1, C, H, W).
        grid: P and Q of a transformer's patches, where the user says so.

    Raises:
        LcamError: Nothing spatial reaches the logits, or tokens of which it is not known where they
            lie.
    """
    with _with_random_for_zero_weights(network):
        flow = Flow(network, picture, grid)
        try:
            found = flow.last()
        except LcamError:
            refuse_unknown_tokens(flow.events, flow.events, grid)
            raise
        return _checked_target(flow, found)


def _checked_target(flow: Flow, found: Event) -> Target:
    """The target layer that was found; refused where tokens behind it are not known."""
    # What comes before is behind it: a --grid alone is held against all.
    start = 0 if flow.grid else next(i for i, e in enumerate(flow.events) if e is found)
    refuse_unknown_tokens(flow.events[start:], flow.events, flow.grid)
    return _target(flow, found)


def locate_target(
    network: nn.Module, layer: str, picture: Tensor, grid: tuple[int, int] | None = None
) -> Target:
    """Find the last call of a named layer whose output has places that the logits depend on.

    Args:
        network: The classifier, in eval mode, frozen.
        layer: The layer's name.
        picture: One input, (1, C, H, W).
        grid: P and Q of a transformer's patches, where the user says so.

    Raises:
        LcamError: There is no such layer, it gives nothing with places, or nothing that the logits
            depend on.
    """
    layer = resolve_layer(network, layer)
    with _with_random_for_zero_weights(network):
        flow = Flow(network, picture, grid)
        calls = [e for e in flow.events if e.name == layer]
        if not calls:
            raise LcamError(
                f"layer {layer!r} does not run in a forward pass",
                "pass a layer that does: --layer NAME, or remove --layer",
            )
        spatial = [e for e in calls if e.layout is not None]
        if not spatial:
            raise _no_places(calls[-1], flow.events, grid)
        for event in spatial:
            refuse_other_grid(event, flow.events, grid)
        reaching = [e for e in reversed(spatial) if flow.reaches(e)]
        if not reaching:
            raise _of_no_effect(spatial[-1], flow)
        # As where the layer is found: one ReLU may run on features, then on maps of class scores.
        return _target(flow, next((e for e in reaching if flow.are_features(e)), reaching[0]))


def _target(flow: Flow, event: Event) -> Target:
    """What the rest of the program knows of a call."""
    refuse_doubtful_square(event, flow.events, flow.grid)
    if event.spatial_layout.kind == "list":
        changed = flow.events_of(with_other_corners(flow.picture, event.spatial_layout))
        refuse_other_order(event, flow.events, changed)
    layer_calls = find_layer_calls(flow.events, event)
    call = layer_calls[event.name].call
    return Target(
        call, event.spatial_layout, event.in_place, flow.switches_gradients_off, layer_calls
    )


@contextlib.contextmanager
def _with_random_for_zero_weights(network: nn.Module) -> Iterator[None]:
    """Let weights that are zero, as those of a classifier before its training, be random meanwhile.

    Else the logits would depend on nothing.
    """
    zero = list(_zero_weights(network))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in zero:
            p.copy_(0.02 * torch.randn(p.shape, generator=generator))
    try:
        yield
    finally:
        with torch.no_grad():
            for p in zero:
                p.zero_()


def _zero_weights(network: nn.Module) -> Iterator[nn.Parameter]:
    weights = (p for p in network.parameters() if p.ndim > 1 and p.is_floating_point())
    return (p for p in weights if _is_zero(p))


def _is_zero(weights: Tensor) -> bool:
    """Whether all are zero; of most networks' the first number tells that they are not."""
    return not (weights.numel() and bool(weights[(0,) * weights.ndim])) and not weights.any()


def _no_places(event: Event, events: Sequence[Event], grid: tuple[int, int] | None) -> LcamError:
    """What to say of a named layer whose output has no places, or none that are known."""
    output = event.output
    what = f"layer {event.name!r} returns {_shape_of(output)}"
    if grid is not None:
        return LcamError(f"{what}, which does not fit a grid of {grid[0]}x{grid[1]}", GRID_HINT)
    if torch.is_tensor(output) and output.ndim == 3 and output.shape[1] > 1:
        return LcamError(
            f"{what}: lcam cannot tell which of these tokens are patches"
            + grid_that_fits(output.shape[1], events),
            GRID_HINT,
        )
    return LcamError(
        f"{what}, not feature maps (B, K, P, Q) or tokens (B, N, K)",
        "pass a layer of convolutional features or tokens: --layer NAME",
    )


def _of_no_effect(event: Event, flow: Flow) -> LcamError:
    """What to say of a named layer that the logits do not depend on."""
    if flow.is_random():
        return random_logits()
    kind = "patches" if event.spatial_layout.kind == "list" else "feature maps"
    what = f"the {kind} at layer {event.name} do not change the logits"
    try:
        last = flow.last().name
    except LcamError as error:  # the reason holds for every layer
        return error
    return LcamError(f"{what}; the last that do: {last}", f"pass --layer {last}, or remove --layer")


def _shape_of(value: object) -> str:
    """A tensor's shape, or what else a value is, for messages."""
    return str(tuple(value.shape)) if torch.is_tensor(value) else f"a {type(value).__name__}"


def _is_quantised(network: nn.Module) -> bool:
    """Whether a network has convolutions that compute with whole numbers."""
    return any(
        "quantized" in type(part).__module__ and "Conv" in type(part).__name__
        for part in network.modules()
    )
