"""Folding batch normalisation into the convolution before it.

In eval mode it is a scale and a shift a channel, which the convolution can do itself. That takes a
pass over every feature map out of each forward pass, and two out of each backward pass.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(network: nn.Module, keep: str = "") -> int:
    """Fold, in place, every BatchNorm2d whose only input is a convolution nobody else reads.

    Args:
        network: A network in eval mode. What torch.fx cannot trace is left as it is.
        keep: Name of a module whose own output must not change: the target layer.

    Returns:
        How many were folded.
    """
    try:
        graph = fx.Tracer().trace(network)
    except Exception:  # tracing runs arbitrary forward code on proxies: it can fail in any way
        return 0
    modules = dict(network.named_modules())
    calls = Counter(n.target for n in graph.nodes if n.op == "call_module")
    folded = 0
    for node in graph.nodes:
        if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm2d):
            continue
        norm, source = modules[node.target], node.args[0]
        if source.op != "call_module" or source.target == keep or len(source.users) > 1:
            continue
        convolution = modules[source.target]
        once = calls[node.target] == 1 and calls[source.target] == 1
        # Not isinstance: a subclass may do more than convolve.
        if type(convolution) is not nn.Conv2d or norm.running_mean is None or not once:
            continue
        _replace(network, source.target, fuse_conv_bn_eval(convolution, norm))
        _replace(network, node.target, nn.Identity())
        folded += 1
    return folded


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    with torch.no_grad():
        setattr(network.get_submodule(parent), child, module.eval().requires_grad_(False))
