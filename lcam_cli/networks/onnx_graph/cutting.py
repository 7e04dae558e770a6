"""Cutting an ONNX graph at a layer: what comes before it, and what comes after, as two models.

onnxruntime gives no tensor that is no output of a model, and takes none that is no input. So two
models are written of one, of the bytes of its own nodes and tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lcam_cli.errors import LcamError
from lcam_cli.networks.onnx_graph import wire
from lcam_cli.networks.onnx_graph.layouts import TensorKind
from lcam_cli.networks.onnx_graph.model import Graph, Model, Node, StoredTensor

_NAME, _SPARSE = 2, 15
_SIZES = ("Shape", "Size")


@dataclass(frozen=True)
class Given:
    """What a part is given.

    Attributes:
        name: The tensor's.
        kind: What it is.
        batch: How many images it is of; None for any number.
    """

    name: str
    kind: TensorKind
    batch: int | None


@dataclass(frozen=True)
class Part:
    """Some steps of a graph.

    Attributes:
        nodes: In order.
        given: Names of the tensors that these read and do not make, but for what the file holds.
        ends: What it gives.
    """

    nodes: tuple[Node, ...]
    given: tuple[str, ...]
    ends: tuple[str, ...]


def needed_for(graph: Graph, ends: Sequence[str], stops: Iterable[str] = ()) -> list[Node]:
    """The nodes that make some tensors, in order.

    Args:
        graph: The graph.
        ends: The tensors.
        stops: Tensors that are there already.
    """
    makers = {name: i for i, node in enumerate(graph.nodes) for name in node.outputs if name}
    stopped = set(stops)
    waiting, found = [name for name in ends if name not in stopped], set[int]()
    while waiting:
        i = makers.get(waiting.pop())
        if i is not None and i not in found:
            found.add(i)
            waiting += graph.nodes[i].read - stopped
    return [graph.nodes[i] for i in sorted(found)]


def whole(graph: Graph, ends: Sequence[str]) -> Part:
    """All that makes some outputs."""
    nodes = needed_for(graph, ends)
    return Part(tuple(nodes), tuple(_open(graph, nodes, ends)), tuple(ends))


def cut(graph: Graph, layer: str, ends: Sequence[str]) -> tuple[Part, Part] | None:
    """Cut what makes ``ends`` after the tensor ``layer``.

    What goes around the layer is given to the second part beside it. Sizes of earlier tensors are
    asked of these again there, since they have no axis of images.

    Returns:
        What gives the layer and what goes around it, the layer first, and what gives ``ends`` of
        these; None where they do not depend on the layer.
    """
    before = needed_for(graph, [layer])
    known = {name for node in before for name in node.outputs}
    if known.intersection(ends):
        return None
    after = needed_for(graph, ends, known)
    of_sizes = made_of_sizes(graph)
    makers = {name: node for node in before for name in node.outputs if name}
    again: dict[int, Node] = {}
    around: list[str] = []
    waiting = _open(graph, after, ends)
    reads_layer = layer in waiting
    while waiting:
        name = waiting.pop(0)
        maker = makers.get(name)
        if name in of_sizes and maker is not None:
            if id(maker) not in again:
                again[id(maker)] = maker
                waiting += [n for n in sorted(maker.read) if n not in graph.tensors]
        elif name not in around and name != layer:
            around.append(name)
    if not reads_layer:
        return None
    chosen = {id(node) for node in after} | set(again)
    second = tuple(node for node in graph.nodes if id(node) in chosen)
    return (
        Part(tuple(before), tuple(_open(graph, before, [])), (layer, *around)),
        Part(second, (layer, *around), tuple(ends)),
    )


def written(
    model: Model, part: Part, given: Sequence[Given], fill: Callable[[StoredTensor], StoredTensor]
) -> bytes:
    """A part as an ONNX file of its own.

    Args:
        model: What it is a part of.
        part: The part.
        given: What each of its inputs is.
        fill: Puts numbers that lie in other files into a tensor.

    Raises:
        LcamError: It needs more than the 2 GB that a file can hold.
    """
    read = {name for node in part.nodes for name in node.read} | set(part.ends)
    tensors = [fill(t) for name, t in model.graph.tensors.items() if name in read]
    if sum(len(t.message) for t in tensors) >= 2**31 - 2**20:
        raise LcamError("it has more than 2 GB of weights", "export it in half precision")
    kept = [o for o in model.graph.others if next(wire.fields(o)).number in (_NAME, _SPARSE)]
    graph: list[wire.Bytes] = list(kept)
    for node in part.nodes:
        graph += wire.nested(1, [node.message])
    for tensor in tensors:
        graph += wire.nested(5, [tensor.message])
    graph += [wire.field(11, _value(one)) for one in given]
    graph += [wire.field(12, wire.field(1, name)) for name in part.ends]
    return b"".join([*model.others, *wire.nested(7, graph)])


def _value(given: Given) -> bytes:
    """An input's name, type and sizes."""
    rest = given.kind.sizes[1:]
    free = wire.field(2, "batch") if given.batch is None else wire.field(1, given.batch)
    dims = [free, *(wire.field(1, size) for size in rest)]
    shape = b"".join(wire.field(1, dim) for dim in dims)
    tensor = wire.field(1, given.kind.type) + wire.field(2, shape)
    return wire.field(1, given.name) + wire.field(2, wire.field(1, tensor))


def _open(graph: Graph, nodes: Sequence[Node], ends: Sequence[str]) -> list[str]:
    """What nodes read, or are to give, and neither make nor find in the file; in order."""
    made = {name for node in nodes for name in node.outputs} | set(graph.tensors)
    read = [name for node in nodes for name in sorted(node.read)]
    return [name for name in dict.fromkeys((*read, *ends)) if name not in made]


def made_of_sizes(graph: Graph) -> set[str]:
    """The tensors that depend on the sizes of others alone, on no number of theirs."""
    found: set[str] = set()
    for node in graph.nodes:
        inputs = node.read
        constant = bool(inputs) or node.op == "Constant"
        if node.op in _SIZES or (
            constant and all(name in found or name in graph.tensors for name in inputs)
        ):
            found.update(node.outputs)
    return found
