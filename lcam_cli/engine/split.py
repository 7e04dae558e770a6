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
    cut = _last_call(network, layer)
    if cut is None:
        return None
    head = _subgraph(cut.graph, cut, _output(cut.graph))
    if head is None:
        return None
    features = _subgraph(cut.graph, None, cut)
    return fx.GraphModule(network, cast(fx.Graph, features)), fx.GraphModule(network, head)


def with_head(network: nn.Module, layer: str, head: nn.Module) -> nn.Module | None:
    """Put another head behind a layer; the modules before it keep their names.

    Args:
        network: A classifier; it gets ``head`` as a module.
        layer: The target layer's name.
        head: What makes logits of the layer's output.

    Returns:
        The network up to the layer's last call, and ``head``; None where it cannot be traced.
    """
    cut = _last_call(network, layer)
    if cut is None:
        return None
    graph = cast(fx.Graph, _subgraph(cut.graph, None, cut))
    end = _output(graph)
    network.add_module(_NEW_HEAD, head)
    with graph.inserting_before(end):
        end.args = (graph.call_module(_NEW_HEAD, end.args),)
    return fx.GraphModule(network, graph)


_NEW_HEAD = "trained_head"


def _last_call(network: nn.Module, layer: str) -> fx.Node | None:
    """The layer's last call in the traced network; None where that cannot be told."""
    try:
        graph = _Tracer(layer).trace(network)
    except Exception:  # tracing runs arbitrary forward code on proxies: it can fail in any way
        return None
    calls = [n for n in graph.nodes if n.op == "call_module" and n.target == layer]
    return calls[-1] if calls else None


def _output(graph: fx.Graph) -> fx.Node:
    return cast(fx.Node, next(n for n in graph.nodes if n.op == "output"))


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
