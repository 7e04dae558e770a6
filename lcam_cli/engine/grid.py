"""Where the cells of the feature maps lie in the picture.

Bilinear upsampling takes for granted that P cells tile the picture evenly. A convolution of stride
2 with padding 1, as ResNets and MobileNets have five of, puts the centre of its first cell on the
first pixel instead, half a cell to the upper left, while the 2×2 pools of a VGG keep to the tiling.
The geometry of the layers says which: a cell's centre is that of its receptive field
(Araujo, Norris, Sim: Computing Receptive Fields of Convolutional Neural Networks, Distill 2019).
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional
from torchvision.ops import stochastic_depth


@dataclass(frozen=True)
class Grid:
    """The centre of cell p lies at pixel ``start + step·p``, on both axes.

    Attributes:
        start: Pixels; 0 is the centre of the first pixel.
        step: Pixels.
    """

    start: float
    step: float

    def after(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> Grid:
        """The grid behind a convolution or pooling."""
        reach = dilation * (kernel - 1) / 2 - padding
        return Grid(self.start + reach * self.step, self.step * stride)


class _UnknownError(Exception):
    """An operation whose geometry is not known here."""


_WINDOWS = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
_GLOBAL = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_POINTWISE = (
    nn.BatchNorm2d,
    nn.GroupNorm,
    nn.Identity,
    nn.Dropout,
    nn.Dropout2d,
    nn.ReLU,
    nn.LeakyReLU,
    nn.ELU,
    nn.Hardtanh,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.SiLU,
    nn.GELU,
    nn.Sigmoid,
)
_POINTWISE_FUNCTIONS = {
    operator.add,
    operator.iadd,
    operator.mul,
    torch.add,
    torch.mul,
    torch.cat,
    torch.relu,
    functional.relu,
    functional.hardtanh,
    functional.dropout,
    stochastic_depth,  # in eval mode
}


def find_grid(network: nn.Module, layer: str) -> Grid | None:
    """Follow the geometry from the picture to the target layer.

    Args:
        network: A classifier.
        layer: The target layer's name.

    Returns:
        Its grid; None where an operation on the way is not known, the axes differ, or ways of
        different geometry meet.
    """
    try:
        graph = fx.Tracer().trace(network)
        modules = dict(network.named_modules())
        inside = [
            node
            for node in graph.nodes
            if node.op == "call_module" and f"{node.target}.".startswith(f"{layer}.")
        ]
        return _grid_of(inside[-1], modules)
    except Exception:  # tracing runs arbitrary forward code on proxies: it can fail in any way
        return None


def _grid_of(last: fx.Node, modules: dict[str, nn.Module]) -> Grid | None:
    known: dict[fx.Node, Grid | None] = {}
    for node in last.graph.nodes:
        given = {known[n] for n in node.all_input_nodes} - {None}
        if node.op == "placeholder":
            known[node] = Grid(0.0, 1.0)
        elif node.op == "call_module":
            known[node] = _behind(modules[str(node.target)], _the_one(given))
        elif node.op == "call_function" and node.target in _POINTWISE_FUNCTIONS:
            known[node] = _the_one(given)
        else:
            raise _UnknownError(str(node))
        if node is last:
            break
    return known[last]


def _behind(module: nn.Module, grid: Grid | None) -> Grid | None:
    if grid is None or isinstance(module, _GLOBAL):
        return None  # one value a picture, as in squeeze and excitation: it has no place
    if isinstance(module, _POINTWISE):
        return grid
    if not isinstance(module, _WINDOWS):
        raise _UnknownError(type(module).__name__)
    dilation = 1 if isinstance(module, nn.AvgPool2d) else module.dilation
    axes = {
        grid.after(*window)
        for window in zip(
            _pair(module.kernel_size),
            _pair(module.stride),
            _pair(module.padding),
            _pair(dilation),
            strict=True,
        )
    }
    return _the_one(axes)


def _the_one(grids: set[Any]) -> Grid | None:
    if len(grids) > 1:
        raise _UnknownError("ways of different geometry meet")
    return next(iter(grids), None)


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, str):  # padding="same"
        raise _UnknownError(value)
    return (value, value) if isinstance(value, int) else tuple(value)
