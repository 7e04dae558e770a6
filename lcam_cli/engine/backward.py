"""Going backward through the whole network, from a pass that was kept or from a new one.

The class that is explained is known only after a forward pass. Where that pass keeps its graph,
gradients take no second one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lcam_cli.engine.device import is_out_of_memory
from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.engine.graph import Graph

Run = Callable[[Tensor], Graph]
"""Pixels (B, C, H, W) to the graph of their forward pass."""

_ON_CPU = 8
"""Pictures at once whose graph of the whole network is kept: 200 MB each of a ViT-B/16. A CPU is as
fast with few, and where its memory runs out, the system ends the program instead of saying so."""


def graphs_at_once(engine: Engine, count: int) -> int:
    """How many of ``count`` images may keep their graph of the whole network at once."""
    return min(count, _ON_CPU) if engine.device.type == "cpu" else count


def run_backward(engine: Engine, function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """:meth:`Engine.run` for what differentiates the whole network.

    Args:
        engine: The engine with the classifier.
        function: Works on a batch; returns a tensor, batch first.
        *tensors: Arguments, all with the batch first.
    """
    most = graphs_at_once(engine, len(tensors[0]))
    pieces = zip(*(torch.split(t, most) for t in tensors), strict=True)
    return torch.cat([engine.run(function, *piece) for piece in pieces])


def forward_with_graph(engine: Engine, x: Tensor, run: Run) -> Forward:
    """What :meth:`Engine.forward` gives, but for what goes around the layer, and the pass's graph.

    Args:
        engine: The engine with the classifier.
        x: Pixels, (B, C, H, W).
        run: Runs the whole network.

    Returns:
        The forward pass; a plain one, without a graph, where memory does not suffice for it.
    """
    if engine.limit is not None and len(x) > engine.limit:
        return engine.forward(x)
    grid = engine.grid  # the first time, finding it runs the network
    graph: Graph | None = None
    try:
        with engine.backbone.features_of_pass() as features:
            graph = run(x)
            A = features(x)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    if graph is None:  # outside of the except clause: the exception would keep the batch alive
        engine.lower_limit(len(x))
        return engine.forward(x)
    graph.is_kept = True
    logits = graph.logits[-len(x) :].detach()
    return Forward(x, A, logits, grid, engine.activation, graph=graph)


def go_back(
    engine: Engine,
    graph: Graph | None,
    run: Run,
    back: Callable[[Graph, Tensor, Tensor], Tensor],
    x: Tensor,
    classes: Tensor,
    near: Tensor,
) -> Tensor:
    """What a backward pass gives.

    Args:
        engine: The engine with the classifier.
        graph: One of ``run`` that was kept; None for none.
        run: Makes it anew, where none was kept or memory does not suffice to go back in it.
        back: Makes of a graph, classes and near classes a tensor with the batch first.
        x: Pixels, (B, C, H, W).
        classes: (B,), int64.
        near: The classes that these are held against, (B, K).
    """
    if graph is not None and graph.starts:
        try:
            return back(graph, classes, near)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        graph.release()
        engine.lower_limit(len(x))

    def anew(x: Tensor, classes: Tensor, near: Tensor) -> Tensor:
        return back(run(x), classes, near)

    return run_backward(engine, anew, x, classes, near)
