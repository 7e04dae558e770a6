"""How an ONNX model is run: up to which layer, from there to which outputs, and what comes last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lcam_cli.errors import LcamError, did_you_mean
from lcam_cli.networks.onnx_graph.cutting import Given, Part, cut, needed_for, whole
from lcam_cli.networks.onnx_graph.layouts import (
    Kinds,
    TensorKind,
    channels_last,
    default_layer,
    is_features,
)
from lcam_cli.networks.onnx_graph.model import FLOATS, Graph, Model
from lcam_cli.networks.onnx_graph.pictures import PictureInput

_LAST_STEPS = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}
_MOST = 6


@dataclass(frozen=True)
class Asked:
    """What the user asks of a model.

    Attributes:
        layer: The tensor that A is to be; None to find one.
        output: Which output the logits are, a name or a number; ``""`` for the only one.
        shape: (C, H, W) of images.
    """

    layer: str | None
    output: str
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class Plan:
    """How a model is run.

    Attributes:
        parts: What is run, one after the other: all, or what comes before the layer and after it.
        given: What each of them is given.
        names: What its outputs are called; ``""`` for one that needs no name.
        last_step: What makes scores of the last output, and is left to PyTorch: ``"softmax"``,
            ``"log_softmax"`` or ``"sigmoid"``; else ``""``.
        layer: The tensor that A is; ``""`` where there is no layer.
        channels_last: Whether it is (B, P, Q, K).
    """

    parts: tuple[Part, ...]
    given: tuple[tuple[Given, ...], ...]
    names: tuple[str, ...]
    last_step: str
    layer: str = ""
    channels_last: bool = False


def make_plan(model: Model, pictures: PictureInput, kinds: Kinds, asked: Asked) -> Plan:
    """Find out how a model is run.

    Args:
        model: The model.
        pictures: Its input.
        kinds: What its tensors are.
        asked: What the user asks.

    Raises:
        LcamError: There is no such output or layer, or the outputs do not depend on the layer.
    """
    graph = model.graph
    names = _outputs(graph, kinds, asked.output)
    ends, last_step = [name for name, _ in names], ""
    if len(ends) == 1:
        ends[0], last_step = _before_last_step(model, kinds, ends[0])
    orders = channels_last(model, kinds, pictures.value.name, pictures.channels_last)
    layer = asked.layer
    if layer is None:
        layer = default_layer(model, kinds, orders, needed_for(graph, ends), ends[0])
    shown = tuple(shown for _, shown in names)
    first = Given(
        pictures.value.name,
        TensorKind(pictures.value.type, pictures.sizes(1, asked.shape)),
        pictures.batch,
    )
    scores = Plan((whole(graph, ends),), ((first,),), shown, last_step)
    if layer is None:
        return scores
    try:
        halves = _halves(graph, layer, ends, kinds, first.name)
    except LcamError as error:
        if asked.layer is None:
            return scores
        raise LcamError(error.what, _advice(graph, kinds, orders, ends)) from None
    given = [
        first if name == first.name else Given(name, kinds[name], pictures.batch)
        for name in halves[1].given
    ]
    last = len(kinds[layer].sizes) == 4 and orders.get(layer, False)
    return Plan(halves, ((first,), tuple(given)), shown, last_step, layer, last)


def _halves(
    graph: Graph, layer: str, ends: Sequence[str], kinds: Kinds, first: str
) -> tuple[Part, Part]:
    """The graph, cut at a layer.

    Raises:
        LcamError: The layer gives no feature maps, or the outputs do not depend on it alone.
    """
    halves, kind = cut(graph, layer, ends), kinds.get(layer)
    if halves is None or kind is None:
        raise LcamError(f"the outputs do not depend on {layer!r}")
    if len(kind.sizes) not in (3, 4) or kind.type not in FLOATS:
        raise LcamError(
            f"layer {layer!r} returns {kind.sizes}, not feature maps (B, K, P, Q) or tokens (B, N, "
            "K)"
        )
    around = [kinds.get(name) for name in halves[1].given[1:] if name != first]
    if any(one is None or one.sizes[:1] != kind.sizes[:1] for one in around):
        raise LcamError(
            f"the graph cannot be cut at {layer!r}: a tensor that bypasses it has no batch axis"
        )
    return halves


def _outputs(graph: Graph, kinds: Kinds, wanted: str) -> list[tuple[str, str]]:
    """The outputs that count: the tensor, and what it is called if it needs a name."""
    known = [value.name for value in graph.outputs]
    if wanted:
        name = wanted
        if wanted not in known and wanted.isdecimal() and int(wanted) < len(known):
            name = known[int(wanted)]
        if name not in kinds:
            raise LcamError(
                f"there is no output {wanted!r}"
                if name not in known
                else f"{name!r} is not a tensor",
                did_you_mean(wanted, known) or f"--output is one of: {', '.join(known[:_MOST])}",
            )
        return [(name, wanted)]
    tensors = [name for name in known if name in kinds]
    if not tensors:
        listed = ", ".join(value.described for value in graph.outputs[:_MOST])
        raise LcamError(f"none of its outputs is a tensor: {listed}", "export it without ZipMap")
    rows = [name for name in tensors if kinds[name].type in FLOATS and kinds[name].sizes]
    rows = [name for name in rows if len(kinds[name].sizes) >= 2]
    if len(tensors) == 1 or len(rows) == 1:
        return [((rows or tensors)[0], "")]
    return [(name, name) for name in tensors]


def _before_last_step(model: Model, kinds: Kinds, end: str) -> tuple[str, str]:
    """Where the last step is a softmax or a sigmoid of logits (B, R): these, and which it is."""
    makers = {name: node for node in model.graph.nodes for name in node.outputs}
    at, seen = end, 0
    while at in makers and makers[at].op == "Identity" and seen < len(makers):
        at, seen = makers[at].inputs[0], seen + 1
    node = makers.get(at)
    step = _LAST_STEPS.get(node.op, "") if node is not None and not node.domain else ""
    if not step or node is None:
        return end, ""
    given = kinds.get(node.inputs[0])
    if given is None or len(given.sizes) != 2 or given.type not in FLOATS:
        return end, ""
    axis = node.attributes.get("axis")
    if axis is not None and axis.whole not in (-1, 1):
        return end, ""
    return (node.inputs[0], step) if node.inputs[0] in makers else (end, "")


def _advice(graph: Graph, kinds: Kinds, orders: dict[str, bool], ends: Sequence[str]) -> str:
    """A hint: the last feature maps on the way to the outputs."""
    nodes = needed_for(graph, ends)
    names = [n for node in nodes for n in node.outputs]
    found = [n for n in names if n in orders and is_features(kinds.get(n), orders[n])]
    return f"feature maps are, e.g.: {', '.join(found[-3:])}" if found else "remove --layer"
