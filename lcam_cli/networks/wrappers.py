"""Wrappers around a network, or a part of it, that hand on to what they wrap.

``DataParallel``, ``torch.compile`` and averaged models change how a network runs or is trained, not
what it computes. They come off, so that layers have the names that they have in the plain network.
"""

from __future__ import annotations

import re
import sys
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

_ON_MODULE = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
# What wrappers call what they wrap: DataParallel's, torch.compile's, FSDP's, averaged models'.
_PARTS = ("module", "_orig_mod", "_fsdp_wrapped_module", "ema_model", "ema")
# Those of packages that may not be there: timm's ModelEmaV3, ema_pytorch's EMA, …
_NAMES = re.compile(r"^(OptimizedModule|FullyShardedDataParallel)$|E(MA|ma)(?![a-z])|Averag")


def unwrap(module: nn.Module) -> nn.Module:
    """Take the wrappers off a network and, in place, off all of its parts."""
    module = _wrapped(module)
    for parent in list(module.modules()):
        if isinstance(parent, torch.jit.ScriptModule):
            continue
        if getattr(parent, "_compiled_call_impl", None) is not None:  # by parent.compile()
            parent._compiled_call_impl = None
        for name, child in parent._modules.items():
            if child is not None and _part(child):
                parent._modules[name] = unwrap(child)
    return module


def module_in(value: Any) -> Any:
    """The network of an object that keeps one but is none, as timm's first ``ModelEma``."""
    parts = [getattr(value, part, None) for part in _PARTS if not isinstance(value, nn.Module)]
    return next((part for part in parts if isinstance(part, nn.Module)), value)


def plain_layer(network: nn.Module, layer: str) -> str:
    """A layer's name without wrappers' parts where there is none of the name as it is."""
    known = {name for name, _ in network.named_modules()}
    short = without_wrappers(layer)
    return short if layer not in known and short in known else layer


def without_wrappers(layer: str) -> str:
    """``features.2`` of ``module.features._orig_mod.2``."""
    return ".".join(part for part in layer.split(".") if part not in _PARTS)


def run_eagerly() -> None:
    """Have functions under ``torch.compile`` run as written: they are traced and hooked here."""
    if "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance"):
        torch.compiler.set_stance("force_eager")


def _wrapped(module: nn.Module) -> nn.Module:
    """What is left of a network without the wrappers around it."""
    while part := _part(module):
        inner = getattr(module, part)
        # Code that says `self.network.module(x)` goes on as it was.
        if not hasattr(inner, part):
            inner.__dict__[part] = inner
        module = inner
    return module


def _part(module: nn.Module) -> str:
    """What a wrapper calls the network that it hands on to; ``""`` for what is no wrapper."""
    if isinstance(module, torch.jit.ScriptModule):
        return ""
    kind = type(module)
    # ModelEmaV2 has no forward at all.
    hands_on = isinstance(module, _ON_MODULE) or kind.forward is nn.Module.forward
    if not (hands_on or _NAMES.search(kind.__name__)):
        return ""
    return next((p for p in _PARTS if isinstance(module._modules.get(p), nn.Module)), "")
