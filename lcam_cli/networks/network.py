"""A classifier as its source gives it, and what the sources share."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torchvision.models import AlexNet_Weights

from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.networks.weights.state_dicts import split_key


@dataclass
class Network:
    """A classifier as loaded: what runs, and what identifies it.

    Attributes:
        module: The classifier, in eval mode.
        name: What the user called it (``resnet50``, ``file.py:function``, …).
        weights: ``"DEFAULT"``-like name, ``"none:seed=N"``, or ``"sha256:…"`` of the file.
        weights_file: Where those weights were read, ``""`` if not from a file.
        class_names: One name a class; empty until known.
        preprocess: What the weights were trained with.
        grid: ``"PxQ"`` of its patches where the architecture says so.
        activation: What turns its logits into scores unless the user says other: ``"softmax"`` or
            ``"sigmoid"``; ``""`` where its source does not know.
        normalisation_known: Whether mean and std in ``preprocess`` are those that the weights were
            trained with; False where they stand in for numbers that nobody has said.
    """

    module: nn.Module
    name: str
    weights: str
    weights_file: str = ""
    class_names: list[str] = field(default_factory=list)
    preprocess: Preprocess = field(default_factory=Preprocess)
    grid: str = ""
    activation: str = ""
    normalisation_known: bool = True


def check_network(network: object, who: str, name: str) -> Network:
    """Check what a source that is not lcam's own returns.

    Args:
        network: What it returned.
        who: What the source is called in messages.
        name: The classifier's name, as typed.

    Raises:
        LcamError: It is no :class:`Network`, or part of it is of another kind than it has to be.
    """
    hint = "return an lcam_cli.networks.network.Network from it"
    if not isinstance(network, Network):
        raise LcamError(f"{who} returned a {type(network).__name__}", hint)
    wanted = {
        "module": (isinstance(network.module, nn.Module), "an nn.Module"),
        "weights": (
            isinstance(network.weights, str) and _WEIGHTS.fullmatch(network.weights) is not None,
            "none:seed=N, sha256:… or a name of letters, digits and underscores",
        ),
        "weights_file": (isinstance(network.weights_file, str), "a path as text"),
        "class_names": (
            isinstance(network.class_names, list)
            and all(isinstance(name, str) for name in network.class_names),
            "a list of texts",
        ),
        "preprocess": (isinstance(network.preprocess, Preprocess), "an lcam_cli.Preprocess"),
        "grid": (
            isinstance(network.grid, str) and re.fullmatch(r"(\d+x\d+)?", network.grid) is not None,
            "PxQ, or empty",
        ),
        "activation": (
            network.activation in ("", "softmax", "sigmoid"),
            "softmax, sigmoid or empty",
        ),
        "normalisation_known": (isinstance(network.normalisation_known, bool), "True or False"),
    }
    for what, (fits, words) in wanted.items():
        if not fits:
            value = " ".join(repr(getattr(network, what)).split())
            raise LcamError(
                f"{who} returned a Network for {name} whose {what} is {value:.80}, not {words}",
                "report this to its author",
            )
    return network


_WEIGHTS = re.compile(r"\w+|none:seed=\d{1,19}|sha256:[0-9a-f]{64}")

LoadNetwork = Callable[[str, str, int], Network]
"""What a source is: called with the name, the weights and the seed that the user typed."""


def seeded(build: Callable[[], Any], seed: int) -> Any:
    """Call ``build()`` with random numbers from ``seed``, leaving everybody else's as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def looks_like_file(weights: str) -> bool:
    """Tell whether ``--weights`` means a file and no name."""
    path, _ = split_key(weights)
    return path.exists() or path.suffix != "" or "/" in weights


def imagenet_names(module: nn.Module) -> list[str]:
    """ImageNet's class names for a network of 1,000 classes, else none.

    Under torchvision's and timm's names those are ImageNet's unless the user says other.
    """
    names = list(AlexNet_Weights.IMAGENET1K_V1.meta["categories"])
    return names if class_count(module) == len(names) else []


def class_count(module: nn.Module) -> int:
    """Outputs of the last layer that has parameters."""
    last = [m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    return last.out_features if isinstance(last, nn.Linear) else last.out_channels


def of_size(preprocess: Preprocess, image_size: int | tuple[int, int]) -> Preprocess:
    """The same preprocessing for another input size; the crop keeps its share of the image.

    Args:
        preprocess: For the input size that it says.
        image_size: Side of a square in pixels, or (H, W).
    """
    H, W = (image_size, image_size) if isinstance(image_size, int) else image_size
    resize: int | tuple[int, int]
    if isinstance(preprocess.resize, tuple):
        down, across = preprocess.resize
        resize = (
            max(H, round(down * H / preprocess.height)),
            max(W, round(across * W / preprocess.width)),
        )
    else:
        resize = round(preprocess.resize * min(H, W) / min(preprocess.height, preprocess.width))
    return dataclasses.replace(preprocess, image_size=image_size, resize=resize)


def check_loaded(module: nn.Module, name: str) -> None:
    """Check that a network has values.

    Raises:
        LcamError: Some are on the meta device, or those of lazy layers not made.
    """
    tensors = [*module.named_parameters(), *module.named_buffers()]
    empty = [n for n, tensor in tensors if tensor.is_meta]
    if empty:
        raise LcamError(
            f"{name}: its weights are on the meta device: they were never loaded ({empty[0]})",
            "load them in the function: to_empty(device='cpu'), then load_state_dict()",
        )
