"""Cutting a network in two graphs at its target layer; they share the network's parameters."""

from __future__ import annotations

from typing import cast

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
        What leads to the layer's output, and what follows it; None where it cannot be traced, or
        where what follows also needs the network's input.
    """
    try:
        graph = _Tracer(layer).trace(network)
    except Exception:  # tracing runs arbitrary forward code on proxies: it can fail in any way
        return None
    calls = [n for n in graph.nodes if n.op == "call_module" and n.target == layer]
    if not calls:
        return None
    cut = calls[-1]
    output = next(n for n in graph.nodes if n.op == "output")
    head = _subgraph(graph, cut, output)
    if head is None:
        return None
    features = _subgraph(graph, None, cut)
    return fx.GraphModule(network, cast(fx.Graph, features)), fx.GraphModule(network, head)


def _subgraph(graph: fx.Graph, start: fx.Node | None, end: fx.Node) -> fx.Graph | None:
    """Copy what ``end`` needs, with ``start`` as its only input (None: the network's own input).

    Returns None where ``end`` also needs the network's input by a way that goes around ``start``.
    """
    needed: set[fx.Node] = set()
    waiting = [end]
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            waiting.extend(node.all_input_nodes if node is not start else [])
    if start is not None and any(n.op == "placeholder" for n in needed):
        return None
    copy = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        if node is start:
            copied[node] = copy.placeholder("A")
        elif node in needed:
            copied[node] = copy.node_copy(node, lambda n: copied[n])
    if end.op != "output":
        copy.output(copied[end])
    return copy
