"""Names of tensors in an ONNX graph, as users type them and as PyTorch's modules can bear them."""

from __future__ import annotations

from torch import nn

from lcam_cli.errors import LcamError, did_you_mean
from lcam_cli.networks.onnx_graph.model import Graph

_A_MODULE = nn.Module()


def find_tensor(graph: Graph, layer: str) -> str:
    """The tensor that is meant by its name, by that of its node, or by :func:`module_name`.

    Raises:
        LcamError: There is none.
    """
    made = [name for node in graph.nodes for name in node.outputs if name]
    by_name = {module_name(name): name for name in made}
    by_name |= {node.name: node.outputs[0] for node in graph.nodes if node.name and node.outputs}
    by_name |= {name: name for name in made}
    if layer not in by_name:
        raise LcamError(
            f"there is no tensor or node {layer!r} in this graph",
            did_you_mean(layer, by_name) or f"its last tensors: {', '.join(made[-3:])}",
        )
    return by_name[layer]


def module_name(tensor: str) -> str:
    """A tensor's name as one that a module of PyTorch can have.

    It is the same, but for quotes and the like, and for dots where what lies between them can be no
    module's name.
    """
    kept = "".join(c if c.isalnum() or c in "_-+:/ ." else "_" for c in tensor)
    parts = kept.split(".")
    usable = all(parts) and not any(hasattr(_A_MODULE, part) for part in parts)
    return kept if usable else "tensor " + kept.replace(".", "_")
