"""From the name a user types to a network with its weights, classes and preprocessing."""

from __future__ import annotations

import dataclasses
import logging
import math
import re
from dataclasses import dataclass, field
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.models import VisionTransformer

from lcam_cli.errors import LcamError, did_you_mean
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.networks.weights.checkpoint import is_plain
from lcam_cli.networks.weights.file import WeightsFile
from lcam_cli.networks.weights.state_dicts import split_key

DEMO_BACKBONE = "lcam-demo"
"""The small classifier that ships with the package, for ``lcam demo``."""

log = logging.getLogger("lcam")

# Auxiliary training heads of GoogLeNet and Inception v3: never run in eval mode.
_AUXILIARY = ("AuxLogits", "aux1", "aux2")


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
    """

    module: nn.Module
    name: str
    weights: str
    weights_file: str = ""
    class_names: list[str] = field(default_factory=list)
    preprocess: Preprocess = field(default_factory=Preprocess)
    grid: str = ""


def runs_user_code(name: str) -> bool:
    """Tell whether loading this backbone imports a file or module that the user names."""
    return ":" in name and not name.startswith("timm/") and not name.endswith(".pt2")


def load_network(name: str, weights: str = "DEFAULT", *, seed: int = 0) -> Network:
    """Load a classifier.

    Args:
        name: A torchvision classifier, ``timm/NAME``, an exported program ``FILE.pt2``,
            ``package.module:function`` or ``file.py:function`` (called without arguments, returning
            an ``nn.Module``).
        weights: ``"DEFAULT"`` or another name of torchvision's weights (downloaded and checked by
            its hash, cached) or timm's, ``"none"`` (random, from ``seed``), or a file (``.pt``,
            ``.pth``, ``.safetensors``; ``FILE#KEY`` for one of several state dicts in it).
        seed: For ``"none"``; with ``"none:seed=N"`` that N is taken instead.

    Raises:
        LcamError: Unknown backbone or weights, a download that fails, weights that do not fit.
    """
    if match := re.fullmatch(r"none:seed=(\d{1,19})", weights):
        weights, seed = "none", int(match[1])
    if name == DEMO_BACKBONE:
        network = _demo_network(name, weights)
    elif name.endswith(".pt2"):
        from lcam_cli.networks.program import program_network  # noqa: PLC0415 (it needs this module)

        network = program_network(name, weights)
    elif name.startswith("timm/"):
        from lcam_cli.networks.timm import timm_network  # noqa: PLC0415 (an extra)

        network = timm_network(name, weights, seed)
    elif runs_user_code(name):
        from lcam_cli.networks.function import function_network  # noqa: PLC0415 (it needs this module)

        network = function_network(name, weights, seed)
    else:
        network = _torchvision_network(name, weights, seed)
    network.module.eval()
    return network


def torchvision_classifiers() -> list[str]:
    """Return the names of torchvision's image classifiers."""
    return list(torchvision.models.list_models(module=torchvision.models))


# --- torchvision ----------------------------------------------------------------------------------


def _torchvision_network(name: str, weights: str, seed: int) -> Network:
    if name not in torchvision_classifiers():
        near = did_you_mean(name, torchvision_classifiers())
        raise LcamError(
            f"unknown backbone {name!r}",
            f"{near or 'e.g. resnet50, vgg16, mobilenet_v2, convnext_tiny'} "
            "Also possible: timm/NAME, file.py:function and package.module:function.",
        )
    known = torchvision.models.get_model_weights(name)
    if weights == "none":
        module = seeded(lambda: _with_random_classifier(_build_torchvision(name)), seed)
        network = Network(module, name, f"none:seed={seed}")
        network.preprocess = _preset(next(iter(known)))
    elif weights == "DEFAULT" or weights in known.__members__:
        entry = known[weights]
        network = Network(_download(name, entry), name, entry.name)
        network.preprocess = _preset(entry)
    elif looks_like_file(weights):
        network = _torchvision_from_file(name, weights)
        network.preprocess = _preset(next(iter(known)))
        if isinstance(network.module, VisionTransformer):
            network.preprocess = of_size(network.preprocess, network.module.image_size)
    else:
        raise LcamError(
            f"unknown weights {weights!r} for {name}",
            f"give a file, none, DEFAULT or one of: {', '.join(known.__members__)}",
        )
    _without_auxiliary_heads(network.module)
    network.class_names = imagenet_names(network.module)
    return network


def _build_torchvision(name: str, **options: Any) -> nn.Module:
    if name in ("googlenet", "inception_v3"):
        options.setdefault("init_weights", True)
    module: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    return module


def _with_random_classifier(module: nn.Module) -> nn.Module:
    """Have a classifier that begins as zeros, as the ViTs' does, say something of the picture."""
    last = [m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    if not last.weight.any():
        nn.init.trunc_normal_(last.weight, std=0.02)
    return module


def _download(name: str, entry: Any) -> nn.Module:
    try:
        # check_hash is on in torchvision's own loader.
        module: nn.Module = torchvision.models.get_model(name, weights=entry)
    except (OSError, RuntimeError) as error:
        raise LcamError(
            f"cannot get the weights {entry.name} of {name}: {error}",
            "check the network, or give a file you have (--weights FILE), or --weights none",
        ) from None
    return module


def _torchvision_from_file(name: str, weights: str) -> Network:
    """Build the network around the file's weights; the file decides the number of classes."""
    file = WeightsFile(weights)
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        # As torchvision does for its own weights: they expect the other normalisation.
        options = {"init_weights": False, "transform_input": True}
    skeleton = _shapes_only(name, **options)
    state = file.named_for(skeleton)
    classes = _class_count_in(state, skeleton)
    if classes is not None:
        options["num_classes"] = classes
    if isinstance(skeleton, VisionTransformer):
        options["image_size"] = _image_size_in(state, skeleton)
    module = _shapes_only(name, **options)
    fit = file.fit(module, name, passed_over=_AUXILIARY)  # before any memory is taken
    if all(k.endswith("num_batches_tracked") for k in fit.missing):
        module.to_empty(device="cpu")  # the file brings every value that is read
    else:
        module = _without_auxiliary_heads(_build_torchvision(name, **options))
    file.put(module, fit, name)
    if "transform_input" in options:
        log.warning(
            "%s gets its input as torchvision's own weights do (transform_input); if these were "
            "trained without: --backbone net.py:build, --image-size %d, and in net.py: "
            '"import torchvision" and "def build(): return torchvision.models.%s('
            'num_classes=%d, aux_logits=False, init_weights=False)"',
            name,
            299 if name == "inception_v3" else 224,
            name,
            _class_count(module),
        )
    return Network(module, name, file.identity, file.found_at)


def _shapes_only(name: str, **options: Any) -> nn.Module:
    """The classifier without its values, where it can be built so."""
    try:
        with torch.device("meta"):
            module = _build_torchvision(name, **options)
    except NotImplementedError:  # RegNets compute their widths with tensors
        module = _build_torchvision(name, **options)
    return _without_auxiliary_heads(module)


def _class_count_in(state: dict[str, Any], skeleton: nn.Module) -> int | None:
    """How many classes the state dict's last layer has, or None if it is the skeleton's number."""
    own = skeleton.state_dict()
    last = list(own)[-1]
    if not is_plain(state.get(last)) or state[last].ndim != own[last].ndim:
        return None
    count = int(state[last].shape[0])
    return None if count in (0, own[last].shape[0]) else count


def _image_size_in(state: dict[str, Any], skeleton: VisionTransformer) -> int:
    """The picture's side that the state dict's position embeddings are for, in pixels."""
    positions = state.get("encoder.pos_embedding")
    if not is_plain(positions) or positions.ndim != 3:
        return int(skeleton.image_size)
    return math.isqrt(max(positions.shape[1] - 1, 1)) * int(skeleton.patch_size)


def of_size(preprocess: Preprocess, image_size: int) -> Preprocess:
    """The same preprocessing for another input size; the crop keeps its share of the picture."""
    resize = round(preprocess.resize * image_size / preprocess.image_size)
    return dataclasses.replace(preprocess, image_size=image_size, resize=resize)


def _without_auxiliary_heads(module: nn.Module) -> nn.Module:
    for name in _AUXILIARY:
        if getattr(module, name, None) is not None:
            setattr(module, name, None)
    if hasattr(module, "aux_logits"):
        setattr(module, "aux_logits", False)  # noqa: B010 (Module types every attribute as a tensor)
    return module


def _preset(entry: Any) -> Preprocess:
    """Translate torchvision's preprocessing preset of these weights."""
    preset = entry.transforms()
    return Preprocess(
        image_size=int(preset.crop_size[0]),
        resize=int(preset.resize_size[0]),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        interpolation=preset.interpolation.value,
    )


# --- the demo's -----------------------------------------------------------------------------------


def _demo_network(name: str, weights: str) -> Network:
    from lcam_cli.demo import network as demo  # noqa: PLC0415 (only the demo needs it)

    if weights != "DEFAULT":
        raise LcamError(
            f"{name} comes with its own weights, not {weights!r}", "leave --weights out"
        )
    return Network(
        demo.load_demo_classifier(),
        name,
        "DEFAULT",
        class_names=list(demo.CLASSES),
        preprocess=Preprocess(
            image_size=demo.IMAGE_SIZE, resize=demo.RESIZE, mean=demo.MEAN, std=demo.STD
        ),
    )


# --- shared ---------------------------------------------------------------------------------------


def seeded(build: Any, seed: int) -> Any:
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
    names = list(torchvision.models.AlexNet_Weights.IMAGENET1K_V1.meta["categories"])
    return names if _class_count(module) == len(names) else []


def _class_count(module: nn.Module) -> int:
    """Outputs of the last layer that has parameters."""
    last = [m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    return last.out_features if isinstance(last, nn.Linear) else last.out_channels
