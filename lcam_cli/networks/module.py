"""A network that a program has at hand, as the classifier that everything here works with."""

from __future__ import annotations

import copy

import torch
from torch import nn

from lcam_cli.errors import LcamError
from lcam_cli.networks.network import Network
from lcam_cli.networks.weights.fingerprint import sha256_of_state


def module_network(module: nn.Module) -> Network:
    """Return a copy of a network, identified by what its state holds.

    A copy, on the CPU: the network is folded, frozen and moved, and whoever is training it goes
    on with theirs.

    Args:
        module: A classifier: normalised images (B, C, H, W) to logits (B, R).

    Raises:
        LcamError: It cannot be copied.
    """
    copied = copy_of(
        module, "pass file.py:function instead, with a function that returns the network"
    )
    copied.eval().requires_grad_(False)
    return Network(copied, type(module).__name__, sha256_of_state(copied))


def copy_of(module: nn.Module, hint: str) -> nn.Module:
    """Copy a network, to the CPU.

    Args:
        module: The network.
        hint: What to do where it cannot be copied.

    Raises:
        LcamError: It cannot be copied.
    """
    try:
        with torch.no_grad():  # else copies of TorchScript's weights are computed from its own
            return copy.deepcopy(module).cpu()
    except Exception as error:  # a module may hold anything: open files, graphs, other processes
        raise LcamError(
            f"the {type(module).__name__} cannot be copied: {type(error).__name__}: {error}", hint
        ) from error
