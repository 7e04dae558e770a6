"""torchvision's own classifiers, by the names that it has for them."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.models import VisionTransformer

from lcam_cli.errors import LcamError, plural
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.networks.network import (
    Network,
    class_count,
    imagenet_names,
    looks_like_file,
    of_size,
    seeded,
)
from lcam_cli.networks.weights.file import WeightsFile
from lcam_cli.networks.weights.tensors import is_plain

log = logging.getLogger("lcam")

# Auxiliary training heads of GoogLeNet and Inception v3: never run in eval mode.
_AUXILIARY = ("AuxLogits", "aux1", "aux2")


def torchvision_classifiers() -> list[str]:
    """Return the names of torchvision's image classifiers."""
    return list(torchvision.models.list_models(module=torchvision.models))


def torchvision_network(name: str, weights: str, seed: int) -> Network:
    """Load a classifier of torchvision's.

    Args:
        name: One of :func:`torchvision_classifiers`.
        weights: ``"DEFAULT"`` or another name of torchvision's weights (downloaded and checked by
            their hash, cached), ``"none"`` (random, from ``seed``), or a file.
        seed: For ``"none"``.

    Raises:
        LcamError: It has no such weights, a download fails, or weights do not fit.
    """
    known = torchvision.models.get_model_weights(name)
    if weights == "none":
        module = seeded(lambda: _with_random_classifier(_build(name)), seed)
        network = Network(module, name, f"none:seed={seed}")
        network.preprocess = _preset(next(iter(known)))
    elif weights == "DEFAULT" or weights in known.__members__:
        entry = known[weights]
        network = Network(_download(name, entry), name, entry.name)
        network.preprocess = _preset(entry)
    elif looks_like_file(weights):
        network = _from_file(name, weights)
        channels = _first_layer(network.module)[1].in_channels
        network.preprocess = _preset(next(iter(known))).with_channels(channels)
        if isinstance(network.module, VisionTransformer):
            network.preprocess = of_size(network.preprocess, network.module.image_size)
    else:
        raise LcamError(
            f"unknown weights {weights!r} for {name}",
            f"pass a file, none, DEFAULT or one of: {', '.join(known.__members__)}",
        )
    _without_auxiliary_heads(network.module)
    network.class_names = imagenet_names(network.module)
    return network


def _build(name: str, **options: Any) -> nn.Module:
    if name in ("googlenet", "inception_v3"):
        options.setdefault("init_weights", True)
    module: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    return module


def _with_random_classifier(module: nn.Module) -> nn.Module:
    """Have a classifier that begins as zeros, as the ViTs' does, say something of the image."""
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
            f"cannot download the weights {entry.name} of {name}: {error}",
            "check the internet connection, or pass a local file (--weights FILE) or --weights "
            "none",
        ) from None
    return module


def _from_file(name: str, weights: str) -> Network:
    """Build the network around the file's weights; the file decides the number of classes."""
    file = WeightsFile(weights)
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        # As torchvision does for its own weights: they expect the other normalisation.
        options = {"init_weights": False, "transform_input": True}
    skeleton = _shapes_only(name, **options)
    state = file.named_for(skeleton)
    channels = _channels_in(state, skeleton)
    if channels is not None and "transform_input" in options:
        options["transform_input"] = False  # it is between the means of three colours
    classes = _class_count_in(state, skeleton)
    if classes is not None:
        options["num_classes"] = classes
    if isinstance(skeleton, VisionTransformer):
        options["image_size"] = _image_size_in(state, skeleton)
    module = _shapes_only(name, channels, **options)
    fit = file.fit(module, name, passed_over=_AUXILIARY)  # before any memory is taken
    if all(k.endswith("num_batches_tracked") for k in fit.missing):
        module.to_empty(device="cpu")  # the file brings every value that is read
    else:
        module = _for_channels(_without_auxiliary_heads(_build(name, **options)), channels)
    file.load_into(module, fit, name, hand_over=True)
    if channels is not None:
        log.warning(
            "%s is for images of %s: the first layer of %s, %s, expects them",
            file.path,
            plural(channels, "channel"),
            name,
            _first_layer(module)[0],
        )
    if options.get("transform_input"):
        log.warning(
            "%s gets its input as for torchvision's own weights (transform_input); if yours were "
            "trained without it, pass --backbone net.py:build, --image-size %d, and in net.py: "
            '"import torchvision" and "def build(): return torchvision.models.%s('
            'num_classes=%d, aux_logits=False, init_weights=False)"',
            name,
            299 if name == "inception_v3" else 224,
            name,
            class_count(module),
        )
    network = Network(module, name, file.identity, file.found_at)
    network.normalisation_known = channels is None
    return network


def _shapes_only(name: str, channels: int | None = None, **options: Any) -> nn.Module:
    """The classifier without its values, where it can be built so."""
    try:
        with torch.device("meta"):
            module = _build(name, **options)
    except NotImplementedError:  # RegNets compute their widths with tensors
        module = _build(name, **options)
    with torch.device("meta"):
        return _for_channels(_without_auxiliary_heads(module), channels)


def _first_layer(module: nn.Module) -> tuple[str, nn.Conv2d]:
    """The convolution that sees the image, with its name."""
    return next((n, m) for n, m in module.named_modules() if isinstance(m, nn.Conv2d))


def _channels_in(state: dict[str, Any], skeleton: nn.Module) -> int | None:
    """For how many channels the state dict's first layer is; None if for the skeleton's number."""
    path, layer = _first_layer(skeleton)
    weight = state.get(f"{path}.weight")
    if not is_plain(weight) or weight.ndim != 4:
        return None
    own, there = tuple(layer.weight.shape), tuple(weight.shape)
    same_but_for_channels = (own[0], *own[2:]) == (there[0], *there[2:])
    return there[1] if same_but_for_channels and there[1] not in (0, own[1]) else None


def _for_channels(module: nn.Module, channels: int | None) -> nn.Module:
    """Exchange the first layer for one of so many channels; None leaves it as it is."""
    if channels is None:
        return module
    path, own = _first_layer(module)
    layer = nn.Conv2d(
        channels,
        own.out_channels,
        own.kernel_size,  # type: ignore[arg-type]
        own.stride,  # type: ignore[arg-type]
        own.padding,  # type: ignore[arg-type]
        own.dilation,  # type: ignore[arg-type]
        bias=own.bias is not None,
    )
    parent, _, last = path.rpartition(".")
    setattr(module.get_submodule(parent), last, layer)
    return module


def _class_count_in(state: dict[str, Any], skeleton: nn.Module) -> int | None:
    """How many classes the state dict's last layer has, or None if it is the skeleton's number."""
    own = skeleton.state_dict()
    last = list(own)[-1]
    if not is_plain(state.get(last)) or state[last].ndim != own[last].ndim:
        return None
    count = int(state[last].shape[0])
    return None if count in (0, own[last].shape[0]) else count


def _image_size_in(state: dict[str, Any], skeleton: VisionTransformer) -> int:
    """The image's side that the state dict's position embeddings are for, in pixels."""
    positions = state.get("encoder.pos_embedding")
    if not is_plain(positions) or positions.ndim != 3:
        return int(skeleton.image_size)
    return math.isqrt(max(positions.shape[1] - 1, 1)) * int(skeleton.patch_size)


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
