"""The common modules of torch.nn, made again from what an exported program calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

# Modules without parameters, whose settings are called as their functions' are.
_WITHOUT_PARAMETERS: dict[str, Callable[..., nn.Module]] = {
    "max_pool2d": nn.MaxPool2d,
    "avg_pool2d": nn.AvgPool2d,
    "adaptive_avg_pool2d": nn.AdaptiveAvgPool2d,
    "relu": nn.ReLU,
    "relu_": partial(nn.ReLU, inplace=True),
    "hardtanh": nn.Hardtanh,  # ReLU6 is one
    "hardtanh_": partial(nn.Hardtanh, inplace=True),
    "hardswish": nn.Hardswish,
    "hardswish_": partial(nn.Hardswish, inplace=True),
    "hardsigmoid": nn.Hardsigmoid,
    "silu": nn.SiLU,
    "silu_": partial(nn.SiLU, inplace=True),
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
}


def common_module(
    function: str,
    settings: Mapping[str, Any],
    parameters: Sequence[str],
    path: str,
    tensors: Mapping[str, Tensor],
) -> nn.Module | None:
    """The module of torch.nn that made a call, where it is a common one; None for others.

    Args:
        function: What was called: ``conv2d``.
        settings: What it was given by name besides tensors.
        parameters: Names of the tensors it was given after the first.
        path: The module's name.
        tensors: The program's weights, by name.
    """
    if function in _WITHOUT_PARAMETERS and not parameters:
        return _WITHOUT_PARAMETERS[function](**settings)
    names = [f"{path}.{name}" for name in ("weight", "bias", "running_mean", "running_var")]
    own = {n.rpartition(".")[2]: tensors[n] for n in names if n in tensors}
    if list(parameters) != [f"{path}.{name}" for name in own]:
        return None
    module = _with_parameters(function, settings, own)
    if module is not None:
        module.load_state_dict(own, strict=False, assign=True)
        module.requires_grad_(False)
    return module


def _with_parameters(
    function: str, settings: Mapping[str, Any], own: Mapping[str, Tensor]
) -> nn.Module | None:
    """A common module with parameters shaped as its ``own``, without their values."""
    match function, [*own]:
        case "conv2d", ["weight", *_]:
            names = ("stride", "padding", "dilation", "groups")
            chosen = {name: settings[name] for name in names if name in settings}
            R, K, *kernel = own["weight"].shape
            K *= chosen.get("groups", 1)
            return nn.Conv2d(K, R, tuple(kernel), bias="bias" in own, device="meta", **chosen)  # type: ignore[arg-type]
        case "linear", ["weight", *_]:
            R, K = own["weight"].shape
            return nn.Linear(K, R, bias="bias" in own, device="meta")
        case "layer_norm", ["weight", "bias"]:
            chosen = {name: settings[name] for name in ("eps",) if name in settings}
            return nn.LayerNorm(settings["normalized_shape"], **chosen)
        case "batch_norm", ["weight", "bias", "running_mean", "running_var"]:
            return nn.BatchNorm2d(len(own["weight"]), eps=settings["eps"])
    return None
