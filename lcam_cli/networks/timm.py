"""``timm/NAME``: the classifiers of the timm package, which is an extra."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

from torch import nn

from lcam_cli.errors import LcamError, did_you_mean
from lcam_cli.extras import not_installed
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.networks.network import Network, imagenet_names, looks_like_file, of_size, seeded
from lcam_cli.networks.weights.file import WeightsFile
from lcam_cli.networks.weights.tensors import is_plain

PREFIX = "timm/"


def timm_network(name: str, weights: str, seed: int) -> Network:
    """Load a classifier of timm's.

    Args:
        name: ``timm/NAME``, where NAME may name weights too: ``timm/resnet18.a1_in1k``.
        weights: ``"DEFAULT"`` or the name of timm's weights after the dot (downloaded by timm,
            cached), ``"none"`` (random, from ``seed``), or a file.
        seed: For ``"none"``.

    Raises:
        LcamError: timm is not installed, it has no such classifier or weights, a download fails,
            or weights do not fit.
    """
    timm = _timm()
    architecture, _, named = name.removeprefix(PREFIX).partition(".")
    if not timm.is_model(architecture):
        near = did_you_mean(architecture, timm.list_models())
        raise LcamError(f"timm has no classifier {architecture!r}", near or "e.g. timm/resnet18")
    if weights == "DEFAULT" and named:
        weights = named
    if weights == "none":
        config = _config(timm, architecture, "")
        module = seeded(lambda: timm.create_model(architecture, pretrained=False), seed)
        network = Network(module, name, f"none:seed={seed}")
    elif looks_like_file(weights):
        config = _config(timm, architecture, named)
        network = _from_file(timm, name, architecture, config, weights)
    else:
        config = _config(timm, architecture, "" if weights == "DEFAULT" else weights)
        network = Network(_download(timm, name, architecture, config), name, config.tag)
    channels = _channels(network.module, config)
    preprocess = _preprocess(timm, network.module, config)
    network.preprocess = preprocess.with_channels(channels)
    network.normalisation_known = preprocess.channels == channels
    if size := _size(network.module):
        network.preprocess = of_size(network.preprocess, size)
    network.class_names = imagenet_names(network.module)
    network.grid = _grid(network.module)
    return network


def _timm() -> ModuleType:
    try:
        import timm  # noqa: PLC0415 (an extra)
    except ImportError:
        raise not_installed("timm", "timm") from None
    module: ModuleType = timm
    return module


def _config(timm: ModuleType, architecture: str, weights: str) -> Any:
    """What timm knows of a classifier's weights; of its default ones where ``weights`` is empty."""
    full = f"{architecture}.{weights}" if weights else architecture
    if weights and not timm.models.is_model_pretrained(full):
        known = [
            k.partition(".")[2] for k in timm.list_models(f"{architecture}.*", pretrained=True)
        ]
        raise LcamError(
            f"unknown weights {weights!r} for {PREFIX}{architecture}",
            f"pass a file, none, DEFAULT or one of: {', '.join(known)}",
        )
    config = timm.get_pretrained_cfg(full)
    if config is None or not config.num_classes:
        raise LcamError(f"{PREFIX}{full} has no classes: it outputs features", "use a classifier")
    return config


def _download(timm: ModuleType, name: str, architecture: str, config: Any) -> nn.Module:
    try:
        module: nn.Module = timm.create_model(f"{architecture}.{config.tag}", pretrained=True)
    except Exception as error:  # the hub's client, the network and the cache raise their own
        raise LcamError(
            f"cannot download the weights {config.tag} of {name}: "
            f"{str(error).partition(chr(10))[0]}",
            "check the internet connection, or pass a local file (--weights FILE) or --weights "
            "none",
        ) from None
    return module


def _from_file(
    timm: ModuleType, name: str, architecture: str, config: Any, weights: str
) -> Network:
    """Build the network around the file's weights.

    The file decides the number of classes, that of the image's channels and, by its position
    embeddings, the image's size.
    """
    file = WeightsFile(weights)
    options: dict[str, Any] = {"num_classes": config.num_classes}
    module = timm.create_model(architecture, pretrained=False, **options)
    state = file.named_for(module)
    classifier = config.classifier if isinstance(config.classifier, str) else config.classifier[0]
    last, own = (names.get(f"{classifier}.weight") for names in (state, module.state_dict()))
    if is_plain(last) and len(last) and own is not None and last.shape[1:] == own.shape[1:]:
        options["num_classes"] = len(last)
    weight = state.get(f"{_first_layer(config)}.weight")
    if (
        is_plain(weight)
        and weight.ndim == 4
        and weight.shape[1] not in (0, _channels(module, config))
    ):
        options["in_chans"] = int(weight.shape[1])
    if size := _size_in(state, module):
        options["img_size"] = size
    if options != {"num_classes": config.num_classes}:
        module = timm.create_model(architecture, pretrained=False, **options)
    file.load_into(module, file.fit(module, name), name)
    return Network(module, name, file.identity, file.found_at)


def _size_in(state: dict[str, Any], module: Any) -> tuple[int, int] | None:
    """(H, W) that position embeddings are for; None if it is the module's, or unknown.

    Args:
        state: The file's entries.
        module: The network at the size that its name says.
    """
    own, there = getattr(module, "pos_embed", None), state.get("pos_embed")
    size = _size(module)
    if size is None or own is None or own.ndim != 3 or not is_plain(there):
        return None
    if (*there.shape[:1], *there.shape[2:]) != (1, own.shape[2]):
        return None
    P, Q = module.patch_embed.grid_size
    tokens = own.shape[1] - P * Q  # those that are no patches
    cells = there.shape[1] - tokens
    scale = math.sqrt(max(cells, 0) / (P * Q))
    rows, columns = round(P * scale), round(Q * scale)
    if cells <= 0 or rows * columns != cells:
        return None
    found = (rows * size[0] // P, columns * size[1] // Q)
    return None if found == size else found


def _size(module: Any) -> tuple[int, int] | None:
    """(H, W) of the images that a network of patches is built for; None for any size."""
    size = getattr(getattr(module, "patch_embed", None), "img_size", None)
    return (int(size[0]), int(size[1])) if isinstance(size, tuple) else None


def _first_layer(config: Any) -> str:
    """The name of the layer that sees the image."""
    first = config.first_conv or ""
    return first if isinstance(first, str) else str(first[0])


def _channels(module: nn.Module, config: Any) -> int:
    """C of the images that a network is built for."""
    layer = dict(module.named_modules()).get(_first_layer(config))
    channels = getattr(layer, "in_channels", config.input_size[0])
    return int(channels) if isinstance(channels, int) else int(config.input_size[0])


def _grid(module: Any) -> str:
    """Rows and columns of patches behind several class and register tokens; ``""`` for others."""
    if getattr(module, "num_prefix_tokens", 0) < 2:
        return ""
    P, Q = module.patch_embed.grid_size
    return f"{P}x{Q}"


def _preprocess(timm: ModuleType, module: nn.Module, config: Any) -> Preprocess:
    """Translate timm's data configuration of these weights."""
    data = timm.data.resolve_model_data_config(module, pretrained_cfg=config.to_dict())
    _, height, width = data["input_size"]
    shorter = min(height, width)
    return Preprocess(
        image_size=(height, width),
        resize=max(shorter, math.floor(shorter / data["crop_pct"])),
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        interpolation=data["interpolation"],
        fit="squash" if data["crop_mode"] == "squash" else "crop",
    )
