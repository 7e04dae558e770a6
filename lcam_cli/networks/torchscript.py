"""TorchScript modules, whose layers cannot be seen from outside."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Script(nn.Module):
    """A TorchScript module, in a module that takes hooks, as it does not itself."""

    def __init__(self, compiled: nn.Module) -> None:
        super().__init__()
        self.compiled = compiled

    def forward(self, *given: Any, **named: Any) -> Any:
        """What it gives itself."""
        return self.compiled(*given, **named)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("compiled"), name)


def wrap_scripts(network: nn.Module) -> nn.Module:
    """Put every outermost TorchScript module of a network, in place, into a :class:`Script`."""
    if isinstance(network, torch.jit.ScriptModule):
        return Script(network)
    for name, child in network._modules.items():
        if child is not None and not isinstance(network, Script):
            network._modules[name] = wrap_scripts(child)
    return network


def scripts_in(network: nn.Module) -> list[str]:
    """Names of the parts that are TorchScript; ``""`` for all of it."""
    return [name for name, part in network.named_modules() if isinstance(part, Script)]


def inside_script(network: nn.Module, layer: str) -> bool:
    """Whether a layer lies inside a TorchScript module, where hooks do not run."""
    return any(
        layer == f"{name}.{inner}".strip(".")
        for name in scripts_in(network)
        for inner, _ in network.get_submodule(name).compiled.named_modules()  # type: ignore[union-attr]
        if inner
    )
