"""What is lent to the code of plug-ins must stay as it is, or what others make of it is false."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lcam_cli.errors import LcamError
from lcam_cli.plugins import TELL


class NetworkChangedError(LcamError):
    """A plug-in has changed the classifier: nothing that is computed after it would be right."""


@contextmanager
def unwritten(who: str, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Refuse that code within the block writes to tensors in place.

    It costs no look at their values: a tensor counts how often it was written to.

    Args:
        who: Whose code it is, for the error.
        tensors: What the code is handed, by what it is called.

    Raises:
        LcamError: One of them was written to.
    """
    before = {name: _version(tensor) for name, tensor in tensors.items()}
    yield
    written = [name for name, tensor in tensors.items() if _version(tensor) != before[name]]
    if written:
        raise LcamError(
            f"{who} writes in place to {', '.join(written)}, which it must not change",
            f"{TELL}: write to a copy, e.g. from clone()",
        )


@contextmanager
def unchanged(who: str, network: nn.Module) -> Iterator[None]:
    """Refuse that code within the block leaves the classifier otherwise than it was.

    Args:
        who: Whose code it is, for the error.
        network: The classifier.

    Raises:
        NetworkChangedError: Its modes, its hooks or its weights are others, or gradients are
            switched on or off.
    """
    before = _state(network)
    try:
        yield
    except Exception:  # what fails may have changed it too
        _compare(who, before, _state(network))
        raise
    _compare(who, before, _state(network))


def _compare(who: str, before: dict[str, object], after: dict[str, object]) -> None:
    changed = [what for what in before if after[what] != before[what]]
    if changed:
        raise NetworkChangedError(f"{who} changes {', '.join(changed)}", TELL)


def _state(network: nn.Module) -> dict[str, object]:
    modules = list(network.modules())
    tensors = [one for m in modules for one in (*m._parameters.values(), *m._buffers.values())]
    return {
        "the classifier's mode": [m.training for m in modules],
        "the classifier's hooks": [
            tuple(hooks)
            for m in modules
            for hooks in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks)
        ],
        "the classifier's weights": [
            (id(one), _version(one)) for one in tensors if one is not None
        ],
        "whether gradients are computed": torch.is_grad_enabled(),
    }


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
