"""The linear layer that an ONNX graph ends with, with its weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lcam_cli.networks.onnx_graph import wire
from lcam_cli.networks.onnx_graph.model import FLOAT, FLOATS, Graph, Node, StoredTensor
from lcam_cli.networks.onnx_graph.session import DTYPE_OF_TYPE

_FLOAT_DATA = 4


def last_linear(
    graph: Graph, end: str, fill: Callable[[StoredTensor], StoredTensor]
) -> nn.Linear | None:
    """The linear layer whose output ``end`` is; None where it is made in another way.

    Whether only average pooling comes before it is not looked at: its user tries that
    (:meth:`Backbone.linear_head`).

    Args:
        graph: The graph.
        end: A tensor.
        fill: Puts numbers that lie in other files into a tensor.
    """
    makers = {name: node for node in graph.nodes for name in node.outputs}
    node = _through(makers, end, ("Identity", "Cast"))
    bias: NDArray[Any] | None = None
    if node is not None and node.op == "Add":
        biases = [name for name in node.inputs if name in graph.tensors]
        others = [name for name in node.inputs if name not in graph.tensors]
        if len(biases) != 1:
            return None
        bias = _numbers(graph, biases[0], fill)
        node = _through(makers, others[0], ("Identity", "Cast"))
        if bias is None or node is None or node.op != "MatMul":
            return None
    if node is None or node.op not in ("Gemm", "MatMul") or len(node.inputs) < 2:
        return None
    weights = _numbers(graph, node.inputs[1], fill)
    if weights is None or weights.ndim != 2:
        return None
    if node.op == "Gemm":
        if not _is_plain(node):
            return None
        transposed = node.attributes.get("transB")
        if transposed is None or not transposed.whole:
            weights = weights.T
        bias = _numbers(graph, node.inputs[2], fill) if len(node.inputs) > 2 else None
    else:
        weights = weights.T
    return _layer(weights, bias)


def _layer(weights: NDArray[Any], bias: NDArray[Any] | None) -> nn.Linear | None:
    """A layer of these (R, K) weights."""
    with torch.device("meta"):
        layer = nn.Linear(weights.shape[1], weights.shape[0], bias=bias is not None)
    layer.weight = nn.Parameter(torch.from_numpy(weights.astype(np.float32, order="C")), False)
    if bias is not None:
        if bias.size != weights.shape[0]:
            return None
        layer.bias = nn.Parameter(torch.from_numpy(bias.astype(np.float32).reshape(-1)), False)
    return layer


def _is_plain(node: Node) -> bool:
    """Whether a Gemm multiplies by no other factors and transposes no input."""
    numbers = [
        node.attributes[name].number for name in ("alpha", "beta") if name in node.attributes
    ]
    transposed = node.attributes.get("transA")
    return all(number == 1 for number in numbers) and not (transposed and transposed.whole)


def _through(makers: dict[str, Node], name: str, steps: tuple[str, ...]) -> Node | None:
    """The node that makes a tensor, before steps that change nothing."""
    for _ in range(len(makers) + 1):
        node = makers.get(name)
        if node is None or node.op not in steps or not node.inputs:
            return node
        name = node.inputs[0]
    return None


def _numbers(
    graph: Graph, name: str, fill: Callable[[StoredTensor], StoredTensor]
) -> NDArray[Any] | None:
    """The numbers of a tensor that the file holds; None of one that it does not."""
    tensor = graph.tensors.get(name)
    if tensor is None or tensor.type not in FLOATS:
        return None
    tensor = fill(tensor)
    dtype = DTYPE_OF_TYPE[tensor.type].newbyteorder("<")
    raw = tensor.raw if tensor.raw is not None else _listed(tensor)
    if raw is None or len(raw) != tensor.size:
        return None
    return np.frombuffer(raw, dtype).reshape(tensor.dims)


def _listed(tensor: StoredTensor) -> bytes | None:
    """The bytes of float32 numbers that are written as a list."""
    if tensor.type != FLOAT:
        return None
    parts = [p for p in wire.fields(tensor.message) if p.number == _FLOAT_DATA]
    return b"".join(bytes(p.value) for p in parts if not isinstance(p.value, int))
