"""Folding batch normalisation into the convolution before it.

In eval mode it is a scale and a shift a channel, which the convolution can do itself. That takes a
pass over every feature map out of each forward pass, and two out of each backward pass.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lcam_cli.engine.tracing import trace


def fold_batch_norms(network: nn.Module, keep: str = "", picture: Tensor | None = None) -> int:
    """Fold, in place, every BatchNorm2d whose only input is a convolution nobody else reads.

    Args:
        network: A network in eval mode. What cannot be traced is left as it is.
        keep: Name of a module whose own output must not change: the target layer.
        picture: One image, (1, C, H, W), with which more networks can be traced.

    Returns:
        How many were folded.
    """
    return len(replace_batch_norms(network, keep, picture)) // 2


def replace_batch_norms(
    network: nn.Module, keep: str = "", picture: Tensor | None = None
) -> dict[str, nn.Module]:
    """Do the same, and return by name the modules that others have taken the place of."""
    replaced: dict[str, nn.Module] = {}
    graph = trace(network, picture)
    if graph is None:
        return replaced
    modules = dict(network.named_modules(remove_duplicate=False))
    calls = Counter(id(modules[str(n.target)]) for n in graph.nodes if n.op == "call_module")
    for node in graph.nodes:
        if node.op != "call_module" or type(modules[node.target]) is not nn.BatchNorm2d:
            continue
        norm, source = modules[node.target], node.args[0]
        if source.op != "call_module" or source.target == keep or len(source.users) > 1:
            continue
        convolution = modules[source.target]
        once = calls[id(norm)] == 1 and calls[id(convolution)] == 1
        # Not isinstance: a subclass may do more than convolve, and so may hooks.
        if type(convolution) is not nn.Conv2d or norm.running_mean is None or not once:
            continue
        if _has_hooks(convolution) or _has_hooks(norm):
            continue
        replaced[source.target], replaced[node.target] = convolution, norm
        replace_module(network, source.target, fuse_conv_bn_eval(convolution, norm))
        replace_module(network, node.target, nn.Identity())
    return replaced


def replace_module(network: nn.Module, name: str, module: nn.Module) -> None:
    """Put a frozen module in the place of that name."""
    parent, _, child = name.rpartition(".")
    with torch.no_grad():
        setattr(network.get_submodule(parent), child, module.eval().requires_grad_(False))


def _has_hooks(module: nn.Module) -> bool:
    """Whether more happens in a call than ``forward``, such as weights made anew (weight_norm)."""
    return bool(module._forward_hooks or module._forward_pre_hooks)
