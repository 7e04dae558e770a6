"""Where the cells of a layer lie in the image: what moves numbers about, run again by PyTorch.

``engine.following`` follows numbers through PyTorch's operations, of which onnxruntime runs none.
So the windows of a graph's convolutions and pools are run on one channel that means nothing; all
that computes a number of those in the same place is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lcam_cli.networks.onnx_graph.cutting import made_of_sizes, needed_for
from lcam_cli.networks.onnx_graph.layouts import Kinds
from lcam_cli.networks.onnx_graph.model import Graph, Node, StoredTensor

_POOLS = ("MaxPool", "AveragePool")
_MOVING = ("Resize", "Upsample", "DepthToSpace", "SpaceToDepth", "ConvTranspose")
_GLOBAL = ("GlobalAveragePool", "GlobalMaxPool", "ReduceMean")


def run_geometry(
    graph: Graph, layer: str, given: str, picture: Tensor, orders: Mapping[str, bool], kinds: Kinds
) -> Tensor:
    """Run the windows up to a layer.

    Args:
        graph: The graph.
        layer: The tensor that A is.
        given: The graph's input.
        picture: (1, C, H, W).
        orders: Of the tensors with the axes of feature maps, whether channels come last.
        kinds: What its tensors are.

    Returns:
        (1, 1, P, Q); the numbers mean nothing.

    Raises:
        ValueError: A step moves numbers in a way that is not known here.
    """
    maps: dict[str, Tensor] = {given: picture[:, :1]}
    sizes = made_of_sizes(graph)
    for node in needed_for(graph, [layer], [given]):
        if sizes.issuperset(node.outputs):
            continue
        several = [maps[name] for name in node.inputs if name in maps]
        if several:
            moved = _moved(graph, node, several, orders)
            for name in node.outputs:
                maps[name] = moved
                _check_sizes(name, moved, orders, kinds)
    return maps[layer]


def _moved(
    graph: Graph, node: Node, several: Sequence[Tensor], orders: Mapping[str, bool]
) -> Tensor:
    """What a node makes of feature maps."""
    first = several[0]
    if all(t.shape[2:] == (1, 1) for t in several):  # of the whole image, as in squeeze-excite
        return first
    if node.op in ("Conv", "FusedConv"):
        weights = graph.tensors[node.inputs[1]]
        return _windows(node, first, _ints(node, "kernel_shape") or list(weights.dims[2:]))
    if node.op in _POOLS:
        return _windows(node, first, _ints(node, "kernel_shape"))
    if node.op in _GLOBAL:
        return first.mean((2, 3), keepdim=True)
    if node.op == "Pad":
        return _padded(graph, node, first, orders[node.inputs[0]])
    # A slice that leaves all places takes channels; with steps it may turn places round.
    moving = node.op in _MOVING or (node.op == "Slice" and len(node.inputs) > 4)
    if moving or any(name not in orders for name in node.outputs):
        raise ValueError(f"{node.op} is not followed")
    if node.op in ("Concat", "Split"):
        axis = node.attributes["axis"].whole if "axis" in node.attributes else 0
        if axis not in ((3, -1) if orders[node.inputs[0]] else (1, -3)):
            raise ValueError(f"{node.op} of places is not followed")
    return sum(several[1:], first) if len(several) > 1 else first


def _windows(node: Node, t: Tensor, kernel: Sequence[int]) -> Tensor:
    """A convolution with one channel of ones, or a pool."""
    strides = _ints(node, "strides") or [1, 1]
    dilations = _ints(node, "dilations") or [1, 1]
    pads = _ints(node, "pads") or [0, 0, 0, 0]
    mode = _text(node, "auto_pad")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        pads = _same(t.shape[2:], kernel, strides, dilations, upper=mode == "SAME_UPPER")
    top, left, bottom, right = pads
    t = F.pad(t, (left, right, top, bottom))
    ceil = "ceil_mode" in node.attributes and bool(node.attributes["ceil_mode"].whole)
    if node.op not in _POOLS:
        return F.conv2d(t, torch.ones(1, 1, *kernel), stride=strides, dilation=dilations)
    return F.max_pool2d(t, tuple(kernel), strides, 0, dilations, ceil)


def _same(
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    *,
    upper: bool,
) -> list[int]:
    """The padding that gives ⌈size/stride⌉ windows; with ``upper`` the longer one is at the end."""
    starts, ends = [], []
    for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        windows = -(-size // stride)
        total = max(0, (windows - 1) * stride + (k - 1) * dilation + 1 - size)
        starts.append(total // 2 if upper else total - total // 2)
        ends.append(total - starts[-1])
    return starts + ends


def _padded(graph: Graph, node: Node, t: Tensor, last: bool) -> Tensor:
    pads = _ints(node, "pads")
    if not pads:
        stored = graph.tensors.get(node.inputs[1]) or _constant(graph, node.inputs[1])
        if stored is None or stored.raw is None or stored.type != 7 or len(node.inputs) > 3:
            raise ValueError("Pad with computed sizes is not followed")
        pads = np.frombuffer(stored.raw, "<i8").tolist()
    before, after = pads[:4], pads[4:]
    rows, columns = (1, 2) if last else (2, 3)
    return F.pad(t, (before[columns], after[columns], before[rows], after[rows]))


def _constant(graph: Graph, name: str) -> StoredTensor | None:
    """A tensor that is a node of its own."""
    for node in graph.nodes:
        if name in node.outputs and node.op == "Constant" and "value" in node.attributes:
            return next(iter(node.attributes["value"].tensors), None)
    return None


def _check_sizes(name: str, t: Tensor, orders: Mapping[str, bool], kinds: Kinds) -> None:
    """Check that the windows are those that onnxruntime runs."""
    if name in orders and name in kinds and len(kinds[name].sizes) == 4:
        sizes: Any = kinds[name].sizes
        places = sizes[1:3] if orders[name] else sizes[2:]
        if tuple(t.shape[2:]) != tuple(places):
            raise ValueError(f"{name} has {places} positions, not {tuple(t.shape[2:])}")


def _ints(node: Node, name: str) -> list[int]:
    return list(node.attributes[name].wholes) if name in node.attributes else []


def _text(node: Node, name: str) -> str:
    return node.attributes[name].text if name in node.attributes else ""
