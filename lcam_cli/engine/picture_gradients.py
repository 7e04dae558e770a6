"""Gradients of class scores at the image itself, through the whole network."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from lcam_cli.engine.backward import go_back
from lcam_cli.engine.contrast import Contrast, explained, near_classes
from lcam_cli.engine.engine import Engine
from lcam_cli.engine.graph import Graph
from lcam_cli.engine.no_gradients import no_gradients


def picture_gradients(
    engine: Engine,
    x: Tensor,
    classes: Tensor,
    contrast: Contrast | None = None,
    graph: Graph | None = None,
) -> Tensor:
    """∂f_y/∂X of the logits of ``classes`` at the pixels, before mean and standard deviation.

    Args:
        engine: The engine with the classifier.
        x: Pixels, (B, C, H, W), float32; noise may take them out of [0, 1].
        classes: y of each image, (B,), int64.
        contrast: What gradients are taken of instead of those logits.
        graph: Of :func:`graph_from_pixels` of ``x``, where it was kept.

    Returns:
        (B, C, H, W), float32. Weights take no part, so that they keep nothing for a gradient.

    Raises:
        LcamError: The logits have no gradient at the image.
    """
    if engine.backbone.picture_gradients_end:
        raise no_gradients(engine.backbone, "this method", picture=True)

    def back(graph: Graph, classes: Tensor, near: Tensor) -> Tensor:
        return graph.gradients(explained(graph.logits, classes, near, contrast, engine.activation))[
            0
        ]

    near = near_classes(contrast, classes)
    return go_back(engine, graph, partial(graph_from_pixels, engine), back, x, classes, near)


def graph_from_pixels(engine: Engine, x: Tensor) -> Graph:
    """Run the network on pixels (B, C, H, W), with the graph that leads back to them."""
    x = x.detach().requires_grad_()
    return Graph(engine.logits_with_gradients(x), [x])
