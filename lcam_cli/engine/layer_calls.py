"""Which call of each layer counts in a forward pass, and reading layers as the network runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from lcam_cli.engine.calls import Call, keep_outputs
from lcam_cli.engine.events import Event
from lcam_cli.engine.gradients import for_autograd
from lcam_cli.engine.tokens import Layout
from lcam_cli.errors import LcamError, did_you_mean


@dataclass(frozen=True)
class LayerCall:
    """The call of a layer that counts.

    Attributes:
        call: The last of its calls that gives feature maps, or else tokens, on the way to A, or
            where there is none, in the whole pass.
        shape: (K, P, Q) of these; tokens are read as maps. None where it gives nothing with places.
        before: Whether they are on the way to A.
        layout: How what it gives is read as feature maps; None where it has no places.
    """

    call: Call
    shape: tuple[int, int, int] | None
    layout: Layout | None = None
    before: bool = False


class LayerCalls:
    """The layers of a network, each with the one call that counts.

    Args:
        network: The network.
        target: The target layer's name.
        layer_calls: Of all layers that run, by name; empty where there is no target layer.
    """

    def __init__(
        self, network: nn.Module, target: str, layer_calls: Mapping[str, LayerCall]
    ) -> None:
        self._network = network
        self._target = target
        self._layer_calls = layer_calls

    def calls_of(self, layers: Sequence[str]) -> list[Call]:
        """Which of a layer's calls is meant: its last that gives feature maps on the way to A.

        Where there is none on that way, the last in the whole pass.

        Raises:
            LcamError: There is no layer of that name.
        """
        return [self._layer_call(layer).call for layer in layers]

    def in_order(self, layers: Sequence[str]) -> list[str]:
        """Some layers in the order in which their first calls end; those that never run last.

        Raises:
            LcamError: There is no layer of that name.
        """
        places = {name: i for i, name in enumerate(self._layer_calls)}
        names = {layer: resolve_layer(self._network, layer) for layer in layers}
        return sorted(layers, key=lambda layer: places.get(names[layer], len(places)))

    def layouts_of(self, layers: Sequence[str]) -> list[Layout | None]:
        """How what each layer gives is read as feature maps; None where it has no places."""
        return [self._layer_call(layer).layout for layer in layers]

    def shapes_of(
        self, layers: Sequence[str], *, anywhere: bool = False
    ) -> list[tuple[int, int, int]]:
        """(K, P, Q) of the outputs of other layers.

        Args:
            layers: Their names.
            anywhere: Also of layers that are not on the way to the target layer.

        Raises:
            LcamError: There is no such layer, or it returns no feature maps there.
        """
        shapes = []
        for layer in layers:
            known = self._layer_call(layer)
            shape = known.shape
            if shape is None and anywhere:
                raise LcamError(
                    f"layer {layer!r} returns no feature maps",
                    "pass layers that return feature maps",
                )
            if shape is None or not (known.before or anywhere):
                raise LcamError(
                    f"layer {layer!r} returns no feature maps before {self._target!r} runs",
                    "pass layers in the order of the network, the last one at the end",
                )
            shapes.append(shape)
        return shapes

    @contextlib.contextmanager
    def watch(self, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
        """Keep what other layers give, by name, while the network runs.

        What layers gave is there when the block ends, but for those that hold the target layer
        inside them.
        """
        outputs: dict[str, Tensor] = {}
        calls = dict(zip(layers, self.calls_of(layers), strict=True))
        with keep_outputs(self._network, calls.values()) as kept:
            yield outputs
        for layer, call in calls.items():
            output = kept[call.name].output
            if torch.is_tensor(output):
                outputs[layer] = for_autograd(output)

    def _layer_call(self, layer: str) -> LayerCall:
        name = resolve_layer(self._network, layer)
        return self._layer_calls.get(name, LayerCall(Call(name), None))


def find_layer_calls(events: Sequence[Event], target: Event) -> dict[str, LayerCall]:
    """The calls that count of all layers that run, given the call that A is from."""
    end = next(i for i, event in enumerate(events) if event is target)
    by_name: dict[str, list[tuple[int, Event]]] = {}
    for i, event in enumerate(events):
        by_name.setdefault(event.name, []).append((i, event))
    layer_calls = {}
    for name, calls in by_name.items():
        places = [(i, e) for i, e in calls if e.layout is not None]
        maps = [(i, e) for i, e in places if e.spatial_layout.kind == "maps"] or places
        before = [(i, e) for i, e in maps if i <= end]
        chosen = target if name == target.name else (before or maps or calls)[-1][1]
        shape = None
        if maps:
            K, P, Q = chosen.spatial_layout.to_maps(cast(Tensor, chosen.output)).shape[1:]
            shape = (K, P, Q)
        layer_calls[name] = LayerCall(
            Call(name, len(calls) - 1 - chosen.number), shape, chosen.layout, bool(before)
        )
    return layer_calls


def resolve_layer(network: nn.Module, layer: str) -> str:
    """The first name of a module that may have several.

    Raises:
        LcamError: There is none of that name; the message names near ones.
    """
    modules = {n: m for n, m in network.named_modules(remove_duplicate=False) if n}
    if layer not in modules:
        top = ", ".join(name for name, _ in network.named_children())
        raise LcamError(
            f"this network has no layer {layer!r}",
            f"{did_you_mean(layer, modules)} Its parts: {top}.".strip(),
        )
    return str(next(name for name, module in modules.items() if module is modules[layer]))
