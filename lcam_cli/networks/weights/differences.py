"""Saying why weights do not fit a network: the kind of difference first, then the way on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from lcam_cli.errors import LcamError

_Shape = tuple[int, ...]

# What a position in an image of one size has, so that it does not fit another size.
_OF_POSITIONS = re.compile(r"pos_?emb|position_?emb|relative_position|rel_pos|abs_pos|\bpos$")
_OF_QUANTISED = re.compile(r"\.(_packed_params(\..+)?|scale|zero_point)$")
_OWN_HEAD = "pass a function that builds the network with that head: --backbone file.py:function"


@dataclass
class Mismatch:
    """How a state dict differs from what a network takes.

    Attributes:
        state: The state dict, as the network would name its entries.
        missing: What the network has and the file lacks.
        unexpected: What the file has within the network's modules and the network lacks.
        shapes: The shapes there and here, where they differ.
        errors: What the network's own loading said besides.
        opaque: Entries that are no tensors but objects that only running code could make, and their
            classes.
    """

    state: Mapping[str, Any]
    missing: Sequence[str]
    unexpected: Sequence[str]
    shapes: Mapping[str, tuple[_Shape, _Shape | None]]
    errors: Sequence[str]
    opaque: Mapping[str, str]

    def size(self) -> int:
        """How much differs."""
        listed = (self.missing, self.unexpected, self.shapes, self.errors, self.opaque)
        return sum(len(part) for part in listed)

    @property
    def names(self) -> list[str]:
        """All names that differ."""
        return [*self.missing, *self.unexpected, *self.shapes]


def mismatch_error(source: str, name: str, module: nn.Module, mismatch: Mismatch) -> LcamError:
    """Describe the difference.

    Args:
        source: The file, for the message.
        name: What the user calls the network.
        module: The network.
        mismatch: The closest that a state dict in the file comes to it.
    """
    for kind in (_opaque, _quantised, _head, _input, _positions):
        if found := kind(name, module, mismatch):
            what, hint = found
            return LcamError(f"weights {source} do not fit {name}: {what}", hint)
    parts = [
        f"{len(names)} {what} (e.g. {names[0]})"
        for names, what in (
            (mismatch.missing, "missing"),
            (mismatch.unexpected, "unexpected"),
            ([_both_shapes(k, *v) for k, v in mismatch.shapes.items()], "differ in shape"),
        )
        if names
    ]
    if not parts:
        parts = [error.rstrip(".")[:200] for error in mismatch.errors[:1]]
    return LcamError(
        f"weights {source} do not fit {name}: {'; '.join(parts)}", _hint(name, module, mismatch)
    )


def _both_shapes(key: str, there: _Shape, here: _Shape | None) -> str:
    return f"{key} is {there} there, {here} here"


def _opaque(_name: str, _module: nn.Module, mismatch: Mismatch) -> tuple[str, str] | None:
    """An entry that is no tensor, in the place of one."""
    return next((describe_object(key, of) for key, of in mismatch.opaque.items()), None)


def describe_object(key: str, of: str) -> tuple[str, str]:
    """Say that an entry is an object that only running code could make, and the way on.

    Args:
        key: The entry's name.
        of: Its class.
    """
    if of.endswith(("DTensor", "ShardedTensor")):
        return (
            f"{key} is a shard of a tensor that is spread over several devices ({of})",
            "save whole tensors: torch.distributed.checkpoint.state_dict.get_model_state_dict "
            "with StateDictOptions(full_state_dict=True)",
        )
    return (
        f"{key} is a {of}, which can only be restored by running code",
        "save it as a plain tensor, or load it in your own function",
    )


def _quantised(name: str, _module: nn.Module, mismatch: Mismatch) -> tuple[str, str] | None:
    quantised = [k for k, v in mismatch.state.items() if isinstance(v, Tensor) and v.is_quantized]
    quantised += [k for k in mismatch.unexpected if _OF_QUANTISED.search(k)]
    if not quantised:
        return None
    return (
        f"they are for a quantised network (e.g. {quantised[0]}), but {name} is not quantised",
        "pass the weights from before quantisation, or a function that quantises the network in "
        "the same way: --backbone file.py:function",
    )


# --- only the head --------------------------------------------------------------------------------


def _head(name: str, module: nn.Module, mismatch: Mismatch) -> tuple[str, str] | None:
    """Everything fits but the layers that give the classes."""
    own = list(module.state_dict())
    differ = mismatch.missing or mismatch.shapes
    if not differ or mismatch.errors or len(mismatch.missing) == len(own):
        return None  # nothing differs, or everything
    prefix = common_prefix(own)
    head = prefix + own[-1][len(prefix) :].partition(".")[0]
    others = {_first(k, prefix) for k in own if not _within(k, head)}
    if not others or any(not _within(k, head) for k in (*mismatch.missing, *mismatch.shapes)):
        return None
    strange = [k for k in mismatch.unexpected if not _within(k, head)]
    if any(_first(k, prefix) in others for k in strange):
        return None
    there = {k: tuple(v.shape) for k, v in mismatch.state.items() if isinstance(v, Tensor)}
    there = {k: s for k, s in there.items() if _within(k, head) or k in strange}
    weights = [k for k, shape in there.items() if len(shape) >= 2]
    here = [k for k in own if _within(k, head) and k in mismatch.names]
    lacking = next((k for k in here if module.state_dict()[k].ndim > 1), here[0])
    mine = tuple(module.state_dict()[lacking].shape)
    if not weights:
        return (
            f"everything but the head fits: the file has no {lacking} {mine}",
            "pass weights that were saved with their classifier",
        )
    last = weights[-1]
    shape = there[last]
    difference = f"{last} is {shape} there, {lacking} {mine} here"
    if last == lacking:
        difference = _both_shapes(last, shape, mine)
    return (
        f"only the head differs: {difference}; {shape[0]} classes",
        _head_to_write(name, head, there),
    )


def _head_to_write(name: str, head: str, there: Mapping[str, _Shape]) -> str:
    """The lines that build a network with the head that the file has."""
    linear = all(len(s) < 3 for s in there.values())
    parts = {k[len(head) + 1 :].rpartition(".")[0] for k in there}
    numbered = all(part.isdigit() for part in parts)
    if not linear or not (numbered or parts == {""}) or not all(_within(k, head) for k in there):
        return _OWN_HEAD
    if parts == {""}:
        layer, without = _layer(head, there), []
    else:
        last = max(map(int, parts))
        layers = [_layer(f"{head}.{i}", there) for i in range(last + 1)]
        without = [f"{head}.{i}" for i, layer in enumerate(layers) if not layer]
        layers = [
            layer or ("nn.Dropout()" if i == 0 or i == last - 1 else "nn.ReLU()")
            for i, layer in enumerate(layers)
        ]
        layer = f"nn.Sequential({', '.join(layers)})"
    if name.startswith("timm/"):
        build, imports = f"timm.create_model({name.removeprefix('timm/')!r})", "timm"
    elif ":" in name:
        return f"in the function, set network.{head} = {layer}{_guessed(without)}"
    elif name in torchvision.models.list_models(module=torchvision.models):
        build, imports = f"torchvision.models.{name}()", "torchvision"
    else:
        return _OWN_HEAD
    return (
        f'pass --backbone net.py:build, and put in net.py: "import {imports}; '
        f'from torch import nn" and "def build(): network = {build}; network.{head} = {layer}; '
        'return network"'
        f"{_guessed(without)}"
    )


def _guessed(without: Sequence[str]) -> str:
    if not without:
        return ""
    kinds = ", ".join(without)
    return f" ({kinds}: the file does not say which, so write what you trained with)"


def _layer(path: str, there: Mapping[str, _Shape]) -> str:
    """What builds the layer of that name; empty where the file has nothing of it."""
    shape = there.get(f"{path}.weight")
    bias = "" if f"{path}.bias" in there else ", bias=False"
    if shape is None:
        return ""
    if len(shape) == 2:
        return f"nn.Linear({shape[1]}, {shape[0]}{bias})"
    norm = "BatchNorm1d" if f"{path}.running_mean" in there else "LayerNorm"
    return f"nn.{norm}({shape[0]})"


# --- only the input, only the size ----------------------------------------------------------------


def _input(name: str, module: nn.Module, mismatch: Mismatch) -> tuple[str, str] | None:
    """Everything fits but the channels of the first layer."""
    first = [
        (path, layer)
        for path, layer in module.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ][:1]
    if not first or mismatch.size() != 1 or list(mismatch.shapes) != [f"{first[0][0]}.weight"]:
        return None
    (path, layer), ((key, (there, here)),) = first[0], mismatch.shapes.items()
    if not isinstance(layer, nn.Conv2d) or here is None or len(there) != 4:
        return None
    if (there[0], *there[2:]) != (here[0], *here[2:]):
        return None
    channels = there[1] * layer.groups
    like = (
        f"nn.Conv2d({channels}, {layer.out_channels}, {layer.kernel_size}, {layer.stride}, "
        f"{layer.padding}, bias={layer.bias is not None})"
    )
    return (
        f"only the input differs: {_both_shapes(key, there, here)}; they are for images with "
        f"{channels} channel{'s' if channels > 1 else ''}",
        f"pass a function that builds {name} with {path} = {like}: --backbone file.py:function",
    )


def _positions(name: str, _module: nn.Module, mismatch: Mismatch) -> tuple[str, str] | None:
    """Everything fits but what depends on the image's size."""
    if mismatch.errors or not mismatch.names or mismatch.missing or mismatch.unexpected:
        return None
    if not all(_OF_POSITIONS.search(k) for k in mismatch.shapes):
        return None
    key, (there, here) = next(iter(mismatch.shapes.items()))
    return (
        f"only the image's size differs: {_both_shapes(key, there, here)}",
        f"pass a function that builds {name} at the size they were trained at "
        "(--backbone file.py:function), and that --image-size",
    )


# --- another network ------------------------------------------------------------------------------


def _hint(name: str, module: nn.Module, mismatch: Mismatch) -> str:
    if ":" not in name and (architecture := torchvision_architecture(mismatch.state)):
        return f"they are for {architecture}: pass --backbone {architecture}"
    own = module.state_dict()
    shared = sum(k in own for k in mismatch.state)
    if not shared:
        return f"none of their names is in {name}: they are for another architecture"
    return "pass the backbone that these weights were trained with"


# The first entries that tell torchvision's families apart, and what their names begin with.
_FAMILIES = (
    ("layer1.0.conv1.weight", ("resnet", "resnext", "wide_resnet")),
    ("features.denseblock1.denselayer1.norm1.weight", ("densenet",)),
    ("features.0.0.weight", ("mobilenet", "efficientnet", "convnext", "swin")),
    ("features.0.weight", ("vgg", "alexnet", "squeezenet")),
    ("encoder.pos_embedding", ("vit",)),
    ("stage2.0.branch2.0.weight", ("shufflenet",)),
    ("layers.0.weight", ("mnasnet",)),
)


def torchvision_architecture(state: Mapping[str, Any]) -> str:
    """The torchvision classifier that the state dict is of, but for its head; "" if of none."""
    there = {k: tuple(v.shape) for k, v in state.items() if isinstance(v, Tensor) and v.ndim}
    family = next((names for entry, names in _FAMILIES if entry in there), ())
    for other in torchvision.models.list_models(module=torchvision.models):
        if not other.startswith(family or "?"):
            continue
        with torch.device("meta"):
            module = torchvision.models.get_model(other, weights=None)
        own = {k: tuple(v.shape) for k, v in module.state_dict().items() if v.ndim}
        head = list(own)[-1].rpartition(".")[0]
        extra = [k for k in there if k not in own and not _within(k, head)]
        if not extra and all(own[k] == there.get(k) for k in own if not _within(k, head)):
            return str(other)
    return ""


# --- names ----------------------------------------------------------------------------------------


def common_prefix(names: Sequence[str]) -> str:
    """What all names begin with, in whole parts: ``"net."`` of ``net.a.weight``, ``net.b``."""
    *_, longest = common_prefixes(names)
    return longest


def common_prefixes(names: Sequence[str]) -> Iterator[str]:
    """All of what names begin with, part by part, from nothing on."""
    first = names[0] if names else ""
    yield ""
    for i, letter in enumerate(first):
        if letter == "." and all(name.startswith(first[: i + 1]) for name in names):
            yield first[: i + 1]


def _first(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).partition(".")[0]


def _within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")
