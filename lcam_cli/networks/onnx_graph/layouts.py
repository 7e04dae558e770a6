"""Which tensors of an ONNX graph are feature maps, and the one that is explained by default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lcam_cli.networks.onnx_graph.model import FLOATS, Model, Node

_CHANNELS_FIRST = frozenset(
    (
        *("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "FusedConv", "MaxPool"),
        *("AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization"),
        *("InstanceNormalization", "GroupNormalization", "LRN", "Resize", "Upsample"),
        *("DepthToSpace", "SpaceToDepth"),
    )
)
# What keeps the order of axes of what it is given.
_KEEPS = frozenset(
    (
        *("Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "ThresholdedRelu", "Clip"),
        *("Sigmoid", "HardSigmoid", "HardSwish", "Swish", "Tanh", "Softplus", "Softsign", "Erf"),
        *("Gelu", "FastGelu", "BiasGelu", "QuickGelu", "Mish", "Exp", "Log", "Sqrt", "Pow"),
        *("Abs", "Neg", "Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "Where"),
        *("Concat", "Identity", "Dropout", "Cast", "Pad", "Slice", "Split", "LayerNormalization"),
        *("SimplifiedLayerNormalization", "QuantizeLinear", "DequantizeLinear", "ReduceMean"),
    )
)
_POOLS = frozenset(
    (*("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean"),)
)
_NO_CHANGE = frozenset(("Identity", "Dropout", "Cast", "Transpose", "QuantizeLinear"))
_WEIGHTED = frozenset(
    (
        *("Conv", "ConvTranspose", "FusedConv", "ConvInteger", "QLinearConv", "Gemm", "MatMul"),
        *("QGemm", "MatMulInteger"),
    )
)
_TRANSPOSED = {
    (0, 2, 3, 1): (False, True),
    (0, 3, 1, 2): (True, False),
    (0, 2, 1, 3, 4): (False, False),  # a shuffle of channels
}


@dataclass(frozen=True)
class TensorKind:
    """What a tensor is when the model runs.

    Attributes:
        type: The format's number of its type.
        sizes: Its sizes, for as many images as were tried.
    """

    type: int
    sizes: tuple[int, ...]


Kinds = Mapping[str, TensorKind]
"""Of all tensors that a model makes on the way to its outputs, by name."""


def channels_last(model: Model, kinds: Kinds, given: str, given_last: bool) -> dict[str, bool]:
    """Of the tensors whose axes are those of feature maps: whether channels come last.

    Channels that lie in groups, on an axis of their own, count as such too.

    Args:
        model: The model.
        kinds: What its tensors are.
        given: The name of its input.
        given_last: Whether channels come last there.
    """
    found = {given: given_last}
    for node in model.graph.nodes:
        order = _order(model, kinds, node, [found[name] for name in node.inputs if name in found])
        if order is not None:
            found |= dict.fromkeys(node.outputs, order)
    return found


def _order(model: Model, kinds: Kinds, node: Node, given: Sequence[bool]) -> bool | None:
    """Whether channels come last in what a node gives; None where that is not known."""
    if node.op in _CHANNELS_FIRST:
        return False
    if not given:
        return None
    if node.op in _KEEPS:
        return given[0]
    if node.op == "MatMul":  # by weights: it mixes what comes last
        return True if given[0] and node.inputs[1] in model.graph.tensors else None
    return _rearranged(kinds, node, given[0])


def _rearranged(kinds: Kinds, node: Node, last: bool) -> bool | None:
    """The same of what moves axes: to the end and back, or channels into groups and back."""
    if node.op == "Transpose" and "perm" in node.attributes:
        order = _TRANSPOSED.get(node.attributes["perm"].wholes)
        return order[1] if order and last is order[0] else None
    old, new = kinds.get(node.inputs[0]), kinds.get(node.outputs[0])
    if node.op != "Reshape" or last or old is None or new is None:
        return None
    same = old.sizes[-2:] == new.sizes[-2:] and min(len(old.sizes), len(new.sizes)) > 3
    return False if same else None


def is_features(kind: TensorKind | None, last: bool) -> bool:
    """Whether a tensor is feature maps of more than one place and one channel."""
    if kind is None or kind.type not in FLOATS or len(kind.sizes) != 4:
        return False
    _, *rest = kind.sizes
    channels, places = (rest[2], rest[0] * rest[1]) if last else (rest[0], rest[1] * rest[2])
    return channels > 1 and places > 1


def default_layer(
    model: Model, kinds: Kinds, orders: Mapping[str, bool], needed: Sequence[Node], end: str
) -> str | None:
    """The last feature maps before the classifier that no pooling made; None where there are none.

    Maps of class scores, which only wait to be averaged, belong to the classifier. Behind
    attention nothing is left of places: a transformer's layer has to be named.

    Args:
        model: The model.
        kinds: What its tensors are.
        orders: Of those with the axes of feature maps, whether channels come last.
        needed: The nodes on the way to the logits, in order.
        end: The logits.
    """
    classes = kinds[end].sizes[-1] if end in kinds and kinds[end].sizes else 0
    pooled: set[str] = set()
    for node in needed:
        if node.op in _POOLS or (node.op in _NO_CHANGE and not pooled.isdisjoint(node.inputs)):
            pooled.update(node.outputs)
    later_weights = later_attention = False
    for node in reversed(needed):
        for name in node.outputs:
            last = orders.get(name)
            if last is None or name in pooled or not is_features(kinds.get(name), last):
                continue
            channels = kinds[name].sizes[3 if last else 1]
            if channels == classes and not later_weights:
                continue
            return None if later_attention else name
        later_weights = later_weights or node.op in _WEIGHTED
        later_attention = later_attention or (node.op == "Softmax" and end not in node.outputs)
    return None
