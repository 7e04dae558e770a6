"""Cutting a network in two graphs at its target layer; they share the network's parameters.

What goes around the layer (a residual, a ViT's class token) is handed over beside its output, so
that the second graph runs nothing that comes before the layer.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, cast

from torch import Tensor, fx, nn

from lcam_cli.engine.calls import Call
from lcam_cli.engine.tracing import trace
from lcam_cli.networks.operators import changes_in_place


def split(
    network: nn.Module, call: Call, picture: Tensor | None = None
) -> tuple[nn.Module, nn.Module] | None:
    """Cut the traced network after a call of the target layer.

    Args:
        network: A classifier.
        call: The target layer's.
        picture: One image, (1, C, H, W), with which more networks can be traced.

    Returns:
        ``before``, from the network's input to the layer's output and what goes around the layer (a
        tuple, the output first), and ``after``, from these, one by one, to the logits. None where
        the network cannot be traced, or where the layer does not lead to its logits.
    """
    cut = _find_call(network, call, picture)
    if cut is None:
        return None
    graph, output = cut.graph, _output(cut.graph)
    if output not in _dependents(graph, {cut}):
        return None
    # Nobody reads what these give: it is what they change that counts.
    changes = _changes(graph)
    later = (_dependents(graph, {cut}) & _needed([output, *changes])) - {cut}
    # How many images there are can be asked of the layer's output as well as of them.
    counts = {n for n in graph.nodes if _is_count(n)}
    of_picture = _dependents(graph, {n for n in graph.nodes if n.op == "placeholder"}, counts)
    # What depends on no image, parameters above all, is taken along by `after` itself.
    around = [
        n for n in graph.nodes if n in of_picture - later - {cut} and later.intersection(n.users)
    ]
    before = _subgraph(graph, (cut, *around), [n for n in changes if n not in later])
    after = _subgraph(
        graph, output.args[0], [n for n in changes if n in later], [cut, *around], counts
    )
    return fx.GraphModule(network, before), fx.GraphModule(network, after)


def with_head(
    network: nn.Module, call: Call, head: nn.Module, picture: Tensor | None = None
) -> nn.Module | None:
    """Put another head behind a layer; the modules before it keep their names.

    Args:
        network: A classifier; it gets ``head`` as a module.
        call: The target layer's.
        head: What makes logits of the layer's output.
        picture: As for :func:`split`.

    Returns:
        The network up to that call, and ``head``; None where it cannot be traced.
    """
    cut = _find_call(network, call, picture)
    if cut is None:
        return None
    later = _dependents(cut.graph, {cut})
    graph = _subgraph(cut.graph, cut, [n for n in _changes(cut.graph) if n not in later])
    end = _output(graph)
    network.add_module(_NEW_HEAD, head)
    with graph.inserting_before(end):
        end.args = (graph.call_module(_NEW_HEAD, end.args),)
    return fx.GraphModule(network, graph)


_NEW_HEAD = "trained_head"


def _find_call(network: nn.Module, call: Call, picture: Tensor | None) -> fx.Node | None:
    """The call in the traced network; None where that cannot be told."""

    def is_step(_module: nn.Module, name: str) -> bool:
        # Looked into are only those that contain the layer: all else stays a single step.
        return not call.name.startswith(name + ".")

    graph = trace(network, picture, is_step=is_step)
    if graph is None:
        return None
    calls = [n for n in graph.nodes if n.op == "call_module" and n.target == call.name]
    return calls[-1 - call.later] if call.later < len(calls) else None


def _output(graph: fx.Graph) -> fx.Node:
    return cast(fx.Node, next(n for n in graph.nodes if n.op == "output"))


def _changes(graph: fx.Graph) -> list[fx.Node]:
    return [n for n in graph.nodes if not n.users and _changes_in_place(n)]


def _changes_in_place(node: fx.Node) -> bool:
    if node.op == "call_method":
        return bool(re.fullmatch(r"\w*[a-z]_", str(node.target)))
    return node.target is operator.setitem or changes_in_place(node.target)


def _is_count(node: fx.Node) -> bool:
    """Whether this asks the network's input for the number of images."""
    if node.op == "call_method" and node.target == "size":
        source = node.args[0]
        return isinstance(source, fx.Node) and source.op == "placeholder" and node.args[1:] == (0,)
    return False


def _dependents(
    graph: fx.Graph, sources: set[fx.Node], without: AbstractSet[fx.Node] = frozenset()
) -> set[fx.Node]:
    """The sources and all that depends on one of them but for what is ``without``."""
    found = set(sources)
    for node in graph.nodes:
        if node not in without and not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found


def _needed(ends: Sequence[fx.Node], given: AbstractSet[fx.Node] = frozenset()) -> set[fx.Node]:
    """``ends`` and all that they need, up to what is ``given``."""
    found: set[fx.Node] = set()
    waiting = list(ends)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting.extend(node.all_input_nodes if node not in given else [])
    return found


def _subgraph(
    graph: fx.Graph,
    results: Any,
    changes: Sequence[fx.Node],
    given: Sequence[fx.Node] = (),
    counts: AbstractSet[fx.Node] = frozenset(),
) -> fx.Graph:
    """Copy a part of a graph.

    Args:
        graph: Of the whole network.
        results: What it gives: nodes, nested as they may be.
        changes: What it runs besides.
        given: What it takes, each a batch.
        counts: Nodes for whose value the size of that batch is taken.
    """
    ends = list(changes)
    fx.map_arg(results, ends.append)
    needed = _needed(ends, {*given, *counts})
    copy = fx.Graph()
    copied = {node: copy.placeholder(node.name) for node in given}
    for node in graph.nodes:
        if node in counts and node in needed:
            copied[node] = copy.call_method("size", (copied[given[0]], 0))
        elif node in needed and node not in copied:
            copied[node] = copy.node_copy(node, copied.__getitem__)
    copy.output(fx.map_arg(results, copied.__getitem__))
    return copy
