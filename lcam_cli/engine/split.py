"""Cutting a network in two graphs at its target layer; they share the network's parameters.

What goes around the layer (a residual, a ViT's class token) is handed over beside its output, so
that the second graph runs nothing that comes before the layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import fx, nn


class _Tracer(fx.Tracer):
    """Traces only into the modules that contain the layer: all else stays a single step."""

    def __init__(self, layer: str) -> None:
        super().__init__()
        self._layer = layer

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not self._layer.startswith(module_qualified_name + ".")


def split(network: nn.Module, layer: str) -> tuple[nn.Module, nn.Module] | None:
    """Cut the traced network after the layer's last call.

    Args:
        network: A classifier.
        layer: The target layer's name.

    Returns:
        ``before``, from the network's input to the layer's output and what goes around the layer (a
        tuple, the output first), and ``after``, from these, one by one, to the logits. None where
        the network cannot be traced, or where the layer does not lead to its logits.
    """
    try:
        graph = _Tracer(layer).trace(network)
    except Exception:  # tracing runs arbitrary forward code on proxies: it can fail in any way
        return None
    calls = [n for n in graph.nodes if n.op == "call_module" and n.target == layer]
    output = next(n for n in graph.nodes if n.op == "output")
    if not calls or output not in _behind(graph, {calls[-1]}):
        return None
    cut = calls[-1]
    needed = _needed(output)
    later = _behind(graph, {cut}) & needed
    of_picture = _behind(graph, {n for n in graph.nodes if n.op == "placeholder"})
    # What depends on no picture, parameters above all, is taken along by `after` itself.
    around = [
        n
        for n in graph.nodes
        if n in of_picture and n not in later and n is not cut and later.intersection(n.users)
    ]
    before = _subgraph(graph, [], (cut, *around))
    after = _subgraph(graph, [cut, *around], output.args[0])
    return fx.GraphModule(network, before), fx.GraphModule(network, after)


def _behind(graph: fx.Graph, sources: set[fx.Node]) -> set[fx.Node]:
    """The sources and all that depends on one of them."""
    found = set(sources)
    for node in graph.nodes:
        if not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found


def _needed(end: fx.Node, given: Sequence[fx.Node] = ()) -> set[fx.Node]:
    """``end`` and all that it needs, up to what is ``given``."""
    found: set[fx.Node] = set()
    waiting = [end]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting.extend(node.all_input_nodes if node not in given else [])
    return found


def _subgraph(graph: fx.Graph, given: Sequence[fx.Node], results: Any) -> fx.Graph:
    """Copy what ``results`` (nodes, nested as they may be) need, with ``given`` as inputs."""
    ends: list[fx.Node] = []
    fx.map_arg(results, ends.append)
    needed = set().union(*(_needed(end, given) for end in ends))
    copy = fx.Graph()
    copied = {node: copy.placeholder(node.name) for node in given}
    for node in graph.nodes:
        if node in needed and node not in copied:
            copied[node] = copy.node_copy(node, copied.__getitem__)
    copy.output(fx.map_arg(results, copied.__getitem__))
    return copy
