"""The checkpoints of TAME's and T-TAME's authors, read as this package's TAME.

Both projects train torch modules of the same names: ``convs.i`` (1×1) and ``bns.i`` (batch norm) a
layer, and ``fuser`` (1×1) for all. TAME saves them alone, T-TAME inside a Lightning checkpoint that
also has the frozen classifier and, in ``hyper_parameters``, what the attention was trained on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from lcam_cli.engine.backbone import Backbone
from lcam_cli.errors import LcamError
from lcam_cli.methods.tame import Form, Tame
from lcam_cli.networks.weights.pickles import OpaqueObject
from lcam_cli.networks.weights.tensors import tensors_of

_BLOCKS = (f"encoder.layers.encoder_layer_{i}.ln_1" for i in (9, 10, 11))
PUBLISHED = {
    "vgg16": {"features.16": 256, "features.23": 512, "features.30": 512},
    "resnet50": {"layer2": 512, "layer3": 1024, "layer4": 2048},
    "vit_b_16": dict.fromkeys(_BLOCKS, 768),
}
"""The layers that the authors' trained files read, with their channels K, by torchvision's names of
the networks."""

_VERSIONS = ("TAME", "TTAME")
_LARGEST = 56
_EPS = 1e-5  # PyTorch's own, which the authors leave as it is
_NAME_THEM = "pass them in the network's order: --layer A --layer B --layer C"
_CONV = "convs.0.weight"
_OF_BRANCH = (
    "convs.{}.weight",
    "convs.{}.bias",
    "bns.{}.weight",
    "bns.{}.bias",
    "bns.{}.running_mean",
    "bns.{}.running_var",
)
_FUSER = ("fuser.weight", "fuser.bias")

# torch.fx numbers calls, not modules: the first norm of a block is "ln", the second "ln_1", and the
# last addition is what the block gives.
_OF_BLOCK = re.compile(r"encoder\.layers\.encoder_layer_\d+")
_NODE = re.compile(rf"({_OF_BLOCK.pattern})\.(ln|ln_1|add_1)")
_MODULE_OF_NODE = {"ln": ".ln_1", "ln_1": ".ln_2", "add_1": ""}


@dataclass(frozen=True)
class Origin:
    """What a checkpoint says of where its attention belongs.

    Attributes:
        network: torchvision's name of the classifier; ``""`` where the file does not say.
        layers: The modules whose outputs the attention reads; empty where the file does not say.
        version: ``"TAME"`` or ``"TTAME"``, which multiplies patches by the class token; ``""``
            where the file does not say.
        classifier: The frozen classifier's weights, by its own names; empty where it has none.
    """

    network: str = ""
    layers: tuple[str, ...] = ()
    version: str = ""
    classifier: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def target(self) -> str:
        """The target layer that goes with it: its last, if the logits depend on its patches.

        In a vision transformer they do not where that is behind the last attention. Then it is the
        first, which the others follow.
        """
        last = self.layers[-1]
        is_behind = _OF_BLOCK.match(last) is not None and not last.endswith(".ln_1")
        return self.layers[0] if is_behind else last


def read_tame(source: str, content: Mapping[str, Any]) -> tuple[Tame, Origin] | None:
    """Read an authors' checkpoint.

    Args:
        source: The file, for messages.
        content: What it holds, read as data.

    Returns:
        The attention with its batch norms folded, and what is said of it; None where the file holds
        nothing of the kind.

    Raises:
        LcamError: It is another variant of TAME, or lacks tensors, or they do not go together.
    """
    settings = _entries(content.get("hyper_parameters"))
    found = _find(source, content)
    if found is None:
        return None
    state, prefix = found
    version = settings.get("attention_version")
    version = version if isinstance(version, str) else ""
    if version and version not in _VERSIONS:
        raise LcamError(
            f"{source} holds {version!r}, an ablation of TAME or another attention",
            f"pass a file of attention_version {' or '.join(_VERSIONS)}",
        )
    own = {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
    form = Form(True, _LARGEST, times_class_token=version == "TTAME", reads_anywhere=True)
    tame = _folded(source, own, form)
    network, layers = settings.get("model_name"), settings.get("layers")
    origin = Origin(
        network if isinstance(network, str) else "",
        tuple(map(_module_of_node, layers)) if _are_names(layers) else (),
        version,
        _classifier(state, prefix),
    )
    return tame, origin


def check_origin(source: str, origin: Origin, backbone: Backbone) -> None:
    """Check that an attention belongs to this classifier, as far as the file tells.

    Its linear layers are compared with the file's: they are what the engine leaves as they were.

    Raises:
        LcamError: The classifier has other weights, or its layers no class token where the
            attention needs one.
    """
    name = backbone.identity.name
    linear = [
        (f"{module_name}.weight", module.weight)
        for module_name, module in backbone.network.named_modules()
        if isinstance(module, nn.Linear)
    ]
    for key, weight in linear:
        there, own = origin.classifier.get(key), weight.float().cpu()
        if there is None:
            continue
        if there.shape != own.shape or not torch.allclose(there.float(), own, 1e-3, 1e-5):
            raise LcamError(
                f"{source} was trained with other weights of {name} than "
                f"{backbone.identity.weights[:19]}: {key} differs",
                f"remove --weights: the weights it was trained with are in the file "
                f"(--weights {source})",
            )
    if (order := backbone.in_order(origin.layers)) != list(origin.layers):
        raise LcamError(
            f"{source} lists its layers in another order than {name} runs them",
            "pass them in that order: " + " ".join(f"--layer {layer}" for layer in order),
        )
    if origin.version == "TTAME":
        for layer, layout in zip(origin.layers, backbone.layouts_of(origin.layers), strict=True):
            if layout is not None and layout.kind != "maps" and layout.prefix != 1:
                raise LcamError(
                    f"{source} multiplies patches by a class token, but layer {layer} of {name} "
                    "has none",
                    "pass the backbone it was trained for",
                )


def settled(source: str, tame: Tame, origin: Origin, network: str, layers: Sequence[str]) -> Origin:
    """The same with the layers known, from the user, the file or the networks that are published.

    Args:
        source: The file, for messages.
        tame: The attention.
        origin: What it says.
        network: The backbone's name as typed.
        layers: Those that the user names; empty for those of the file.

    Raises:
        LcamError: The file is of another network, or nobody says which layers it reads.
    """
    if origin.network and origin.network != network and network in PUBLISHED:
        raise LcamError(
            f"{source} was trained for {origin.network}, not {network}",
            f"pass --backbone {origin.network}",
        )
    known = tuple(layers) or origin.layers
    if not known and network in PUBLISHED:
        channels = [len(conv) for conv in tame.convs]
        if channels != list(PUBLISHED[network].values()):
            fitting = [n for n, of in PUBLISHED.items() if list(of.values()) == channels]
            raise LcamError(
                f"{source} expects layers of {_listed(channels)} feature maps; those that TAME "
                f"reads of {network} have {_listed(PUBLISHED[network].values())}",
                f"pass --backbone {fitting[0]}" if fitting else _NAME_THEM,
            )
        known = tuple(PUBLISHED[network])
    if not known:
        raise LcamError(
            f"{source} does not say which layers of {network} it reads",
            f"{_NAME_THEM}; lcam knows those of {', '.join(PUBLISHED)}",
        )
    return replace(origin, layers=known)


def _listed(channels: Iterable[int]) -> str:
    return ", ".join(map(str, channels))


def _entries(value: object) -> Mapping[Any, Any]:
    """The items of a dictionary, also of one of a framework's, which is read and not made."""
    if isinstance(value, OpaqueObject):
        return value.entries
    return value if isinstance(value, Mapping) else {}


def _find(source: str, content: Mapping[str, Any]) -> tuple[dict[str, Tensor], str] | None:
    """The state dict that holds an attention, and what comes before its names there.

    Raises:
        LcamError: There are several attentions.
    """
    for state in (content.get("state_dict"), content.get("attn_mech"), content):
        if not isinstance(state, Mapping):
            continue
        tensors = tensors_of(state)
        begins = [n.removesuffix(_CONV) for n in tensors if n == _CONV or n.endswith(f".{_CONV}")]
        attentions = [p for p in begins if any(p + name in tensors for name in _FUSER)]
        if len(attentions) > 1:
            raise LcamError(
                f"{source} holds {len(attentions)} attentions: {', '.join(attentions[:3])}",
                "save the state dict of only one",
            )
        if attentions:
            return tensors, attentions[0]
    return None


def _folded(source: str, own: Mapping[str, Tensor], form: Form) -> Tame:
    """The attention of the authors' tensors, with each batch norm in its convolution.

    Raises:
        LcamError: Tensors are missing, or of other shapes.
    """
    count = len({name.split(".")[1] for name in own if re.fullmatch(r"convs\.\d+\.weight", name)})
    needed = [name.format(i) for i in range(count) for name in _OF_BRANCH]
    if missing := [name for name in (*needed, *_FUSER) if name not in own]:
        raise LcamError(
            f"{source} is not a complete TAME: it lacks {', '.join(missing[:3])}"
            + (f" and {len(missing) - 3} more" if missing[3:] else ""),
            "pass the complete checkpoint that the authors' code wrote",
        )
    W, b = own["fuser.weight"], own["fuser.bias"]
    K = [len(own[f"convs.{i}.bias"].reshape(-1)) for i in range(count)]
    shapes: dict[str, tuple[int, ...]]
    shapes = {f"convs.{i}.weight": (k, k, 1, 1) for i, k in enumerate(K)}
    shapes |= {name.format(i): (k,) for i, k in enumerate(K) for name in _OF_BRANCH[1:]}
    shapes |= {"fuser.weight": (len(b.reshape(-1)), sum(K), 1, 1), "fuser.bias": (b.numel(),)}
    for name, shape in shapes.items():
        if own[name].shape != shape:
            raise LcamError(
                f"{source} has {name} of shape {tuple(own[name].shape)}, but its other tensors "
                f"need {shape}",
                "pass a checkpoint of TAME or T-TAME for images",
            )
    convs, biases = zip(*(_fold(own, i) for i in range(count)), strict=True)
    fusions = [part.float().clone() for part in torch.split(W.flatten(1), K, 1)]
    return Tame(list(convs), list(biases), fusions, b.float().clone(), form=form)


def _fold(own: Mapping[str, Tensor], i: int) -> tuple[Tensor, Tensor]:
    """Convolution and batch norm of a branch as one convolution: weight (K, K) and bias (K,)."""
    weight, bias, factor, shift, mean, variance = (
        own[name.format(i)].double() for name in _OF_BRANCH
    )
    factor = factor / (variance + _EPS).sqrt()
    return (weight.flatten(1) * factor[:, None]).float(), (shift + (bias - mean) * factor).float()


def _classifier(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The frozen classifier's weights, which T-TAME has beside the attention as ``body``."""
    around, is_beside, _ = prefix.rpartition("attn_mech.")
    body = f"{around}body."
    if not is_beside:
        return {}
    return {name.removeprefix(body): t for name, t in state.items() if name.startswith(body)}


def _are_names(layers: object) -> TypeGuard[Sequence[str]]:
    return isinstance(layers, list | tuple) and all(isinstance(layer, str) for layer in layers)


def _module_of_node(layer: str) -> str:
    """The module that gives what the authors name by its node in torch.fx's graph."""
    node = _NODE.fullmatch(layer)
    return f"{node[1]}{_MODULE_OF_NODE[node[2]]}" if node else layer
