"""In which order a forward pass uses the layers that hold weights.

Modules' calls do not tell: an attention uses the weights of its projections without calling them, a
transformer's class token belongs to no module that is called late, and TorchScript shows no calls.
What tells is when each weight is first given to an operation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lcam_cli.errors import LcamError, one_line


@dataclass(frozen=True)
class UsedLayers:
    """The modules whose numbers a forward pass uses, in the order of their first use.

    Attributes:
        parameters: By each module's name the names, within it, of its own parameters; none for a
            batch norm that has running statistics alone. A parameter that several modules share
            belongs to the first of them.
        fixed: Modules with other floating-point buffers: what is learned may hide there too.
    """

    parameters: dict[str, list[str]]
    fixed: list[str]


def layers_in_order(network: nn.Module, picture: Tensor) -> UsedLayers:
    """Find the modules that hold weights themselves, in the order of their first use.

    Modules of which a pass uses nothing are left out: they have no part in the logits.

    Args:
        network: A classifier in eval mode.
        picture: (1, C, H, W).

    Raises:
        LcamError: It cannot be watched.
    """
    owners: dict[int, str] = {}
    parameters: dict[str, list[str]] = {}
    fixed: dict[int, str] = {}
    kept = []  # an id tells tensors apart while they live
    for layer, module in network.named_modules():
        parameters[layer] = []
        for name, tensor in module.named_parameters(recurse=False):
            if tensor.is_floating_point() and owners.setdefault(id(tensor), layer) == layer:
                parameters[layer].append(name)
            kept.append(tensor)
        statistics = running_statistics(module) or ()
        owners |= {id(tensor): layer for tensor in statistics}
        others = [t for t in module.buffers(recurse=False) if t.is_floating_point() and t.ndim]
        kept += others
        fixed |= {id(tensor): layer for tensor in others if id(tensor) not in owners}
    try:
        with torch.no_grad(), _FirstUses(owners) as uses, _FirstUses(fixed) as others_used:
            network(picture.clone())
    except Exception as error:  # it has run before: what is new is that it is watched
        raise LcamError(
            f"lcam cannot follow the operations of this network: {type(error).__name__}: "
            f"{one_line(error)}",
            "write its forward() with PyTorch's own operations",
        ) from error
    used = {layer: parameters[layer] for layer in uses.found}
    return UsedLayers(used, list(others_used.found))


def running_statistics(module: nn.Module) -> tuple[Tensor, Tensor] | None:
    """A batch norm's running mean and variance, (K,) each; None for what keeps none."""
    if not isinstance(module, nn.modules.batchnorm._BatchNorm):
        return None
    mean, variance = module.running_mean, module.running_var
    return None if mean is None or variance is None else (mean, variance)


class _FirstUses(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes which owner's tensors operations are given, in the order in which that first happens.

    Attributes:
        found: Owners, each once; a dict for its order.
    """

    def __init__(self, owners: dict[int, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._owners = owners
        self.found: dict[str, None] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in tree_leaves((args, kwargs)):
            owner = self._owners.get(id(value))
            if owner is not None:
                self.found.setdefault(owner)
        return func(*args, **(kwargs or {}))
