"""Where the cells of the feature maps lie in the picture.

Bilinear upsampling takes for granted that P cells tile the picture evenly. A convolution of stride
2 with padding 1, as ResNets and MobileNets have five of, puts the centre of its first cell on the
first pixel instead, half a cell to the upper left, while the 2×2 pools of a VGG keep to the tiling.
The geometry of the layers says which: a cell's centre is that of its receptive field
(Araujo, Norris, Sim: Computing Receptive Fields of Convolutional Neural Networks, Distill 2019).
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torchvision.models.convnext import CNBlock, LayerNorm2d
from torchvision.models.shufflenetv2 import channel_shuffle
from torchvision.ops import stochastic_depth

from lcam_cli.engine.tracing import trace


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

    def padded(self, before: int) -> Grid:
        """The grid with ``before`` cells more above and on the left."""
        return Grid(self.start - before * self.step, self.step)


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
    # ConvNeXt's, which go to channels last and back.
    LayerNorm2d,
    CNBlock,  # its convolution is 7×7 with 3 of padding
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
    channel_shuffle,
    torch.ops.aten.add.Tensor,  # those of exported programs
    torch.ops.aten.add_.Tensor,
    torch.ops.aten.mul.Tensor,
    torch.ops.aten.cat.default,
    torch.ops.aten.relu.default,
    torch.ops.aten.relu_.default,
}
_PARTINGS = ("chunk", torch.functional.split)
_WINDOW_FUNCTIONS = {functional.max_pool2d: nn.MaxPool2d, functional.avg_pool2d: nn.AvgPool2d}


def _is_step(module: nn.Module, name: str) -> bool:
    """Whether a module need not be looked into: besides those of torch.nn what moves nothing."""
    return isinstance(module, _POINTWISE) or fx.Tracer().is_leaf_module(module, name)


def find_grid(
    network: nn.Module, layer: str, later: int = 0, picture: Tensor | None = None
) -> Grid | None:
    """Follow the geometry from the picture to a layer.

    Args:
        network: A classifier.
        layer: The layer's name.
        later: How many of its calls in a forward pass come after the one meant.
        picture: One picture, (1, 3, H, W), with which more networks can be traced.

    Returns:
        Its grid; None where an operation on the way is not known, the axes differ, or ways of
        different geometry meet.
    """
    graph = trace(network, picture, is_step=_is_step, functions=(channel_shuffle,))
    if graph is None:
        return None
    inside = [
        node
        for node in graph.nodes
        if node.op == "call_module" and f"{node.target}.".startswith(f"{layer}.")
    ]
    # Each call is one step only where the layer is not looked into.
    if later >= len(inside) or (later and inside[-1].target != layer):
        return None
    try:
        return _grid_of(inside[-1 - later], network)
    except Exception:  # an operation in a form that is not known here
        return None


def grid_of_patches(network: nn.Module, side: int, cells: tuple[int, int]) -> Grid | None:
    """Where a transformer's tokens lie: at the centres of their patches, if these tile the picture.

    Tokens are moved about in ways that no graph of layers follows, but each stays that of its
    patch, or becomes that of several side by side, as in Swin.

    Args:
        network: A classifier whose target layer gives tokens.
        side: Of the picture, pixels.
        cells: P and Q.

    Returns:
        The grid; None where a window of the network overlaps others of its kind, and so may have
        put patches elsewhere.
    """
    windows = [module for module in network.modules() if isinstance(module, _WINDOWS)]
    shapes = [shape for window in windows for shape in _shapes_of(window)]
    tiling = all(_tiles(*shape) for shape in shapes)
    P, Q = cells
    if P != Q or side % P or not tiling or not any(stride > 1 for _, stride, _, _ in shapes):
        return None
    step = side / P
    return Grid((step - 1) / 2, step)


def _grid_of(last: fx.Node, network: nn.Module) -> Grid | None:
    modules = dict(network.named_modules())
    known: dict[fx.Node, Grid | None] = {}
    for node in _leading_to(last):
        args: Any = node.args
        options: Any = node.kwargs
        given = {known[n] for n in node.all_input_nodes} - {None}
        if node.op == "placeholder":
            known[node] = Grid(0.0, 1.0)
        elif node.op == "call_module":
            known[node] = _after(modules[str(node.target)], _the_one(given))
        elif node.op == "get_attr" or _is_global(node):
            known[node] = None
        elif _is_pointwise(node):
            known[node] = _the_one(given)
        elif node.op == "call_function" and node.target is functional.conv2d:
            weight = _weight_of(node, network)
            convolution = _convolution(weight, *args[2:], **options)
            known[node] = _after(convolution, _the_one(given))
        elif node.op == "call_function" and node.target is functional.pad:
            known[node] = _padded(_the_one(given), *args[1:], **options)
        elif node.op == "call_function" and node.target in _WINDOW_FUNCTIONS:
            settings = {k: v for k, v in options.items() if k != "input"}
            window = _WINDOW_FUNCTIONS[node.target](*args[1:], **settings)
            known[node] = _after(window, _the_one(given))
        else:
            raise _UnknownError(str(node))
    return known[last]


def _leading_to(last: fx.Node) -> list[fx.Node]:
    """The nodes that ``last`` depends on, and itself, in order; not those that ask for sizes."""
    found, open_ends = {last}, [last]
    while open_ends:
        fresh = [node for node in open_ends.pop().all_input_nodes if node not in found]
        found.update(fresh)
        open_ends += fresh
    return [node for node in last.graph.nodes if node in found]


def _is_global(node: fx.Node) -> bool:
    """Whether it is a mean over all places, as in squeeze and excitation."""
    return node.op == "call_method" and node.target == "mean" and tuple(node.args[1:2]) == ((2, 3),)


def _weight_of(node: fx.Node, network: nn.Module) -> Tensor:
    """The weight that a convolution is called with."""
    source = node.args[1]
    if not isinstance(source, fx.Node) or source.op != "get_attr":
        raise _UnknownError("a convolution whose weight is computed")
    weight: Tensor = attrgetter(str(source.target))(network)
    return weight


def _convolution(
    weight: Tensor,
    bias: object = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> nn.Conv2d:
    """A layer with the geometry of a call of ``conv2d``."""
    del bias, groups
    rows, columns = weight.shape[2:]
    return nn.Conv2d(1, 1, (rows, columns), stride, padding, dilation)


def _padded(
    grid: Grid | None, pad: Sequence[int], mode: str = "constant", value: object = None
) -> Grid | None:
    """The grid behind a padding, such as that of TensorFlow's networks, which depends on sizes."""
    del mode, value
    left, _, top, _ = pad
    if grid is None or left != top:
        raise _UnknownError("padding that differs between the axes")
    return grid.padded(left)


def _is_pointwise(node: fx.Node) -> bool:
    """Whether a function changes the channels of each place alone, or chooses among them."""
    if node.target in _PARTINGS:
        return bool(node.kwargs.get("dim") == 1)
    if node.op != "call_function":
        return False
    if node.target is torch.unsqueeze:  # behind x[:, k]
        return bool(node.args[1:] == (1,))
    if node.target is operator.getitem:
        source, index = node.args
        if isinstance(source, fx.Node) and source.target in _PARTINGS:
            return True
        return isinstance(index, tuple) and len(index) == 2 and index[0] == slice(None)
    return node.target in _POINTWISE_FUNCTIONS


def _after(module: nn.Module, grid: Grid | None) -> Grid | None:
    if grid is None or isinstance(module, _GLOBAL):
        return None  # one value a picture, as in squeeze and excitation: it has no place
    if isinstance(module, _POINTWISE):
        return grid
    if not isinstance(module, _WINDOWS):
        raise _UnknownError(type(module).__name__)
    return _the_one({grid.after(*shape) for shape in _shapes_of(module)})


def _tiles(kernel: int, stride: int, padding: int, dilation: int) -> bool:
    """Whether a window stays at its place, or is one of those that tile what they are given."""
    if stride == 1:
        return 2 * padding == dilation * (kernel - 1)
    return (kernel, padding, dilation) == (stride, 0, 1)


def _shapes_of(window: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) -> list[tuple[int, int, int, int]]:
    """Kernel, stride, padding and dilation along each axis."""
    dilation = 1 if isinstance(window, nn.AvgPool2d) else window.dilation
    parts = (window.kernel_size, window.stride, window.padding, dilation)
    return list(zip(*map(_pair, parts), strict=True))


def _the_one(grids: set[Any]) -> Grid | None:
    if len(grids) > 1:
        raise _UnknownError("ways of different geometry meet")
    return next(iter(grids), None)


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, str):  # padding="same"
        raise _UnknownError(value)
    return (value, value) if isinstance(value, int) else tuple(value)
