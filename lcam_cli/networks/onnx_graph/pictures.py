"""What images an ONNX model takes: their size, their channels and in which order its axes are."""

from __future__ import annotations

from dataclasses import dataclass

from lcam_cli.errors import LcamError
from lcam_cli.networks.onnx_graph.checks import image_input
from lcam_cli.networks.onnx_graph.model import UINT8, Model, Node, Value

_PASS_ON = (
    *("Identity", "Cast", "Sub", "Add", "Mul", "Div", "Clip", "Pad", "Resize", "Dropout"),
    *("QuantizeLinear", "DequantizeLinear", "BatchNormalization"),
)
_CONVOLUTIONS = ("Conv", "FusedConv", "ConvInteger", "QLinearConv")
_LAST_TO_FIRST = (0, 3, 1, 2)
_MOST = 1024
_FEW = 4
"""Channels of usual images: grey, grey with its opacity, colour, colour with its opacity."""


@dataclass(frozen=True)
class PictureInput:
    """A model's input.

    Attributes:
        value: As the file has it.
        channels_last: Whether its axes are (B, H, W, C), else (B, C, H, W).
        batch: How many images it takes at once; None for any number.
        channels: C; None where the file does not say.
        height: H in pixels; None where it is free.
        width: W in pixels; None where it is free.
    """

    value: Value
    channels_last: bool
    batch: int | None
    channels: int | None
    height: int | None
    width: int | None

    @property
    def is_uint8(self) -> bool:
        """Whether it takes whole numbers, 0 to 255, rather than normalised ones."""
        return self.value.type == UINT8

    def sizes(self, batch: int, shape: tuple[int, int, int]) -> tuple[int, int, int, int]:
        """Its sizes for so many images (C, H, W), in the order of its axes."""
        channels, height, width = shape
        if self.channels_last:
            return batch, height, width, channels
        return batch, channels, height, width


def find_picture_input(model: Model) -> PictureInput:
    """Find out what a model takes.

    The axes are in the order in which the first convolution, or a transposition before it, reads
    them; where there is none, in that which the sizes tell.

    Raises:
        LcamError: It takes no images.
    """
    value = image_input(model)
    sizes = [size if isinstance(size, int) else None for size in value.dims or ("",) * 4]
    channels_last, channels = _as_read(model, value.name)
    if channels_last is None:
        first, last = sizes[1], sizes[3]
        channels_last = _are_channels(last) and not _are_channels(first)
    batch, *rest = sizes
    if channels_last:
        height, width, told = rest
    else:
        told, height, width = rest
    channels = told or channels
    if channels is not None and not 0 < channels <= _MOST:
        raise LcamError(f"its images have {channels} channels", "pass an image classifier")
    return PictureInput(value, channels_last, batch, channels, height, width)


def _are_channels(size: int | None) -> bool:
    return size is not None and size <= _FEW


def _as_read(model: Model, name: str) -> tuple[bool | None, int | None]:
    """Whether channels come last, and how many there are, by what first reads the input."""
    readers: dict[str, list[Node]] = {}
    for node in model.graph.nodes:
        for given in node.inputs:
            readers.setdefault(given, []).append(node)
    channels_last: bool | None = None
    waiting, seen = [name], {name}
    while waiting:
        for node in readers.get(waiting.pop(0), ()):
            if node.op in _CONVOLUTIONS and len(node.inputs) > 1:
                return channels_last or False, _channels_of(model, node)
            if node.op == "Transpose":
                order = node.attributes.get("perm")
                if order is None or order.wholes != _LAST_TO_FIRST or channels_last is not None:
                    continue
                channels_last = True
            elif node.op not in _PASS_ON:
                continue
            new = [output for output in node.outputs if output and output not in seen]
            seen.update(new)
            waiting += new
    return channels_last, None


def _channels_of(model: Model, node: Node) -> int | None:
    """C of what a convolution reads; None where its weights do not lie in the file."""
    at = 3 if node.op == "QLinearConv" else 1
    weights = model.graph.tensors.get(node.inputs[at]) if at < len(node.inputs) else None
    if weights is None or len(weights.dims) != 4:
        return None
    group = node.attributes.get("group")
    return weights.dims[1] * (group.whole or 1 if group else 1)
