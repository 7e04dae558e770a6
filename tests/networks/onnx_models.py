"""ONNX models made by hand, of the same numbers as networks of PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from tests.tiny import tiny_network

BATCH = "batch"


def arrays_of(network: nn.Module) -> dict[str, np.ndarray[Any, Any]]:
    """A network's weights by the names of its state dict."""
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def node(op: str, given: Sequence[str], out: str, **settings: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(given), [out], name=f"{op} of {out}", **settings)


def conv(given: str, out: str, weights: str, **settings: Any) -> onnx.NodeProto:
    settings = {"strides": [2, 2], "pads": [1, 1, 1, 1], **settings}
    return node("Conv", [given, f"{weights}.weight", f"{weights}.bias"], out, **settings)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    weights: dict[str, np.ndarray[Any, Any]],
    *,
    sizes: Sequence[int | str] | None = (BATCH, 3, 32, 32),
    given: str = "x",
    outputs: Sequence[str] = ("y",),
    dtype: int = TensorProto.FLOAT,
    opset: int = 17,
    inputs: Sequence[Any] | None = None,
    out_dtype: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model; what its outputs are is left open, as exporters do."""
    x = helper.make_tensor_value_info(given, dtype, sizes)
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [x] if inputs is None else list(inputs),
        [helper.make_tensor_value_info(name, out_dtype, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    return model


BODY = (
    conv("x", "c1", "0"),
    node("Relu", ["c1"], "r1"),
    conv("r1", "c2", "2"),
    node("Relu", ["c2"], "r2"),
)
HEAD = (
    node("GlobalAveragePool", ["r2"], "pooled"),
    node("Flatten", ["pooled"], "flat"),
    node("Gemm", ["flat", "6.weight", "6.bias"], "y", transB=1),
)


def tiny_model(
    *last: onnx.NodeProto, classes: int = 4, channels: int = 6, **settings: Any
) -> onnx.ModelProto:
    """``tiny_network`` as a model; ``last`` follows its logits ``y``."""
    weights = arrays_of(tiny_network(classes, channels))
    return model_of([*BODY, *HEAD, *last], weights, **settings)


def save(model: onnx.ModelProto, path: Path) -> str:
    path.write_bytes(model.SerializeToString())
    return str(path)


def tiny_file(folder: Path, *last: onnx.NodeProto, **settings: Any) -> str:
    return save(tiny_model(*last, **settings), folder / "tiny.onnx")


class Residual(nn.Module):
    """Two convolutions with a way around the second, and flattened by a shape that is computed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 6, 3, 1, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x).relu()
        x = (x + self.second(x)).relu().mean((2, 3))
        return self.head(x.reshape(len(x), 6))


def residual_model() -> onnx.ModelProto:
    """:class:`Residual`; the shape is asked of the image."""
    weights = arrays_of(Residual())
    weights |= {"zero": np.array([0]), "columns": np.array([6])}
    return model_of(
        [
            conv("x", "c1", "first"),
            node("Relu", ["c1"], "r1"),
            conv("r1", "c2", "second", strides=[1, 1]),
            node("Add", ["r1", "c2"], "sum"),
            node("Relu", ["sum"], "r2"),
            node("ReduceMean", ["r2"], "means", axes=[2, 3], keepdims=0),
            node("Shape", ["x"], "sizes"),
            node("Gather", ["sizes", "zero"], "count"),
            node("Concat", ["count", "columns"], "shape", axis=0),
            node("Reshape", ["means", "shape"], "flat"),
            node("Gemm", ["flat", "head.weight", "head.bias"], "y", transB=1),
        ],
        weights,
    )


def channels_last_model(**settings: Any) -> onnx.ModelProto:
    """``tiny_network`` as tf2onnx writes Keras's networks: images, and the end, channels last."""
    weights = arrays_of(tiny_network())
    weights["kernel"] = weights["6.weight"].T.copy()
    nodes = [
        node("Transpose", ["x"], "first", perm=[0, 3, 1, 2]),
        conv("first", "c1", "0"),
        node("Relu", ["c1"], "r1"),
        conv("r1", "c2", "2"),
        node("Transpose", ["c2"], "last", perm=[0, 2, 3, 1]),
        node("Relu", ["last"], "r2"),
        node("ReduceMean", ["r2"], "means", axes=[1, 2], keepdims=0),
        node("MatMul", ["means", "kernel"], "product"),
        node("Add", ["product", "6.bias"], "z"),
        node("Softmax", ["z"], "y", axis=-1),
    ]
    return model_of(nodes, weights, **{"sizes": (BATCH, 32, 32, 3), **settings})
