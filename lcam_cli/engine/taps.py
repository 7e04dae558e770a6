"""Reading several layers in one forward pass, and the gradients of class scores at them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.backward import forward_with_graph
from lcam_cli.engine.calls import KeptOutput, hook
from lcam_cli.engine.contrast import Contrast, explained, near_classes
from lcam_cli.engine.device import is_out_of_memory
from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.engine.gradients import FreshResults, fails_by_writing
from lcam_cli.engine.graph import Graph
from lcam_cli.engine.tokens import Layout
from lcam_cli.errors import CannotExplainError, LcamError


@dataclass
class Taps:
    """What a forward pass shows at some layers.

    Attributes:
        logits: Class scores, (B, R), float32.
        outputs: A of each layer, (B, K, P, Q), float32, by the layer's name.
        gradients: ∂f_y/∂A of each layer, shaped as its output; empty where no classes were given.
    """

    logits: Tensor
    outputs: dict[str, Tensor]
    gradients: dict[str, Tensor]


def tap(
    engine: Engine,
    x: Tensor,
    layers: Sequence[str],
    classes: Tensor | None = None,
    contrast: Contrast | None = None,
    graph: Graph | None = None,
) -> Taps:
    """Run the network once and read layers on the way.

    Nothing below the lowest of the layers is differentiated. Of a layer that runs several
    times the call that counts is read, as of the backbone's target layer.

    Args:
        engine: The engine with the classifier.
        x: Images, (B, C, H, W), float32 in [0, 1].
        layers: Names of modules whose outputs are feature maps, or tokens that are read as such.
        classes: (B,), int64, where gradients of their logits are wanted.
        contrast: What gradients are taken of instead of those logits.
        graph: Of :func:`first_pass_over_layers` for these images and layers, which saves the
            forward pass; None for none.

    Raises:
        LcamError: The network has no such layer, or it gives no feature maps.
    """
    backbone = engine.backbone
    backbone.calls_of(layers)  # refuses what is no layer
    near = near_classes(contrast, classes) if classes is not None else x.new_empty(len(x), 0)
    if graph is not None and graph.starts and classes is not None:
        try:
            logits, *rest = _taken(backbone, layers, graph, _value(engine, classes, near, contrast))
            return _taps(layers, logits, rest)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        graph.release()
        engine.lower_limit(len(x))

    def read(
        x: Tensor, classes: Tensor | None = None, near: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        x = engine.normalise(x)
        if classes is None or near is None:
            return _read(backbone, layers, x, None)
        return _read(backbone, layers, x, _value(engine, classes, near, contrast))

    # One flat tuple, because the engine joins its columns where a batch had to be halved.
    logits, *rest = engine.run(read, *((x,) if classes is None else (x, classes, near)))
    return _taps(layers, logits, rest)


def first_pass_over_layers(engine: Engine, x: Tensor, layers: Sequence[str]) -> Forward:
    """A forward pass with its graph down to the lowest of some layers, for :func:`tap`.

    Args:
        engine: The engine with the classifier.
        x: Images, (B, C, H, W), float32 in [0, 1].
        layers: As for :func:`tap`.
    """

    def run(x: Tensor) -> Graph:
        with _fresh_results(engine.backbone):
            return _run(engine.backbone, layers, engine.normalise(x), gradients=True)

    return forward_with_graph(engine, x, run)


def _value(
    engine: Engine, classes: Tensor, near: Tensor, contrast: Contrast | None
) -> Callable[[Tensor], Tensor]:
    """Makes of logits (B, R) what gradients are taken of, (B,)."""
    return lambda logits: explained(logits, classes, near, contrast, engine.activation)


def _taps(layers: Sequence[str], logits: Tensor, rest: Sequence[Tensor]) -> Taps:
    """Of the outputs of the layers, then the gradients if there are any."""
    outputs = dict(zip(layers, rest, strict=False))
    return Taps(logits, outputs, dict(zip(layers, rest[len(layers) :], strict=False)))


def check_gradients(backbone: Backbone, layers: Sequence[str]) -> None:
    """Check that the logits have a gradient at every one of some layers.

    Raises:
        LcamError: They have none at one of them.
    """
    _read(backbone, layers, backbone.blank(), lambda logits: logits[:, 0])


def _read(
    backbone: Backbone,
    layers: Sequence[str],
    x: Tensor,
    value: Callable[[Tensor], Tensor] | None,
) -> tuple[Tensor, ...]:
    """Logits, outputs and, where a value of the logits is given, its gradients.

    Args:
        backbone: The classifier.
        layers: Where to read.
        x: Normalised images, (B, C, H, W).
        value: Makes of logits (B, R) what gradients are taken of, (B,).
    """
    if not backbone.writes_to_results:
        try:
            return _taken(backbone, layers, _run(backbone, layers, x, value is not None), value)
        except RuntimeError as error:
            if value is None or not fails_by_writing(error):
                raise
        backbone.writes_to_results = True
    with _fresh_results(backbone):
        return _taken(backbone, layers, _run(backbone, layers, x, value is not None), value)


def _fresh_results(backbone: Backbone) -> contextlib.AbstractContextManager[object]:
    """In which the network's own code does not write to what gradients need."""
    return FreshResults() if backbone.writes_to_results else contextlib.nullcontext()


def _run(backbone: Backbone, layers: Sequence[str], x: Tensor, gradients: bool) -> Graph:
    """Run the network on normalised images (B, C, H, W); the starts are what the layers give.

    Args:
        backbone: The classifier.
        layers: Where to read.
        x: The images.
        gradients: Whether the graph is recorded, from the lowest of the layers on.
    """
    calls = dict(zip(layers, backbone.calls_of(layers), strict=True))
    layouts = dict(zip(layers, backbone.layouts_of(layers), strict=True))
    kept = {call.name: KeptOutput(call.later) for call in calls.values()}

    def keep(name: str, output: object) -> Tensor | None:
        if not torch.is_tensor(output) or output.ndim not in (3, 4):
            kept[name].add(output)
            return None
        dtype = output.dtype
        if gradients and not output.requires_grad:
            # The graph begins here; what gradients add up to is float32.
            output = output.detach().float().requires_grad_(True)
        kept[name].add(output)
        return output.to(dtype, copy=True)  # what follows may change it in place

    with hook(backbone.network, kept, keep), torch.set_grad_enabled(gradients):
        logits = backbone(x)
    outputs = []
    for layer, call in calls.items():
        output = kept[call.name].output
        if not kept[call.name].count:
            raise LcamError(f"layer {layer!r} does not run", "pass a layer of the forward pass")
        if not torch.is_tensor(output) or output.ndim != (3 if _is_list(layouts[layer]) else 4):
            raise LcamError(
                f"layer {layer!r} returns no feature maps (B, K, P, Q)",
                "pass a convolutional layer",
            )
        outputs.append(output)
    return Graph(logits, outputs)


def _taken(
    backbone: Backbone,
    layers: Sequence[str],
    graph: Graph,
    value: Callable[[Tensor], Tensor] | None,
) -> tuple[Tensor, ...]:
    """Logits, outputs and, where a value of the logits is given, its gradients, of a graph."""
    gradients = () if value is None else _gradients(backbone, layers, graph, value(graph.logits))
    scaled = tuple(g.float() / backbone.gradient_scale for g in gradients)
    layouts = backbone.layouts_of(layers)
    found = [
        t.detach().float() if layout is None else layout.to_maps(t.detach().float())
        for of_layers in (graph.starts, scaled)
        for t, layout in zip(of_layers, layouts, strict=False)
    ]
    return graph.logits.detach(), *found


def _is_list(layout: Layout | None) -> bool:
    return layout is not None and layout.kind == "list"


def _gradients(
    backbone: Backbone, layers: Sequence[str], graph: Graph, value: Tensor
) -> tuple[Tensor, ...]:
    """∂ Σ value / ∂ A of each layer.

    Raises:
        LcamError: There is none at one of them.
    """
    found: Sequence[Tensor | None] = [None] * len(layers)
    if value.requires_grad:
        found = graph.gradients(value, allow_unused=True)
    for layer, g in zip(layers, found, strict=True):
        if g is None:
            raise CannotExplainError(
                f"the logits of {backbone.identity.name} have no gradient at layer {layer}",
                "use a method that needs none, e.g. scorecam",
            )
    return tuple(g for g in found if g is not None)
