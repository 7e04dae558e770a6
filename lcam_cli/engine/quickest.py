"""The quickest way to run a network that is right: one that gives what it gave untouched.

Batch norms are folded, activations save memory, and the network is split at its target layer. Any
of these may change what a network gives, so every way is compared with the untouched network before
it is taken.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lcam_cli.engine.comparing import close, share_memory
from lcam_cli.engine.cut import Cut
from lcam_cli.engine.flow import by_chance
from lcam_cli.engine.folding import put, replace_batch_norms
from lcam_cli.engine.split import split
from lcam_cli.errors import LcamError


@torch.no_grad()
def choose_way(cut: Cut, pictures: Tensor, name: str) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Change how a network computes to the quickest way that gives what it gave untouched.

    Args:
        cut: The network, run whole so far.
        pictures: Two, (2, 3, H, W), or one where they go through it one by one.
        name: What the user calls the network, for messages.

    Returns:
        A of them, and what goes around the layer.

    Raises:
        LcamError: A put back in the layer's place does not give the logits, in any way.
    """
    A, logits, _ = cut.forward(pictures)
    undo = _quicken(cut, pictures[:1])
    # A trace leaves out what is only decided on values; folding, what happens beside a call.
    for quick in (True, False):
        if not quick:
            undo()
        for halves in (split(cut.network, cut.target.call, pictures[:1]), None):
            cut.halves = halves
            around = _around_if_right(cut, pictures, A, logits)
            if around is not None:
                return A, around
    raise _why_not(cut, pictures, logits, name)


def _quicken(cut: Cut, picture: Tensor) -> Callable[[], None]:
    """Fold batch norms and have activations save memory; returns what undoes it."""
    replaced = replace_batch_norms(cut.network, cut.target.call.name, picture)
    undo_in_place = _in_place_without_gradients(cut.network)

    def undo() -> None:
        undo_in_place()
        for name, module in replaced.items():
            put(cut.network, name, module)

    return undo


def _in_place_without_gradients(network: nn.Module) -> Callable[[], None]:
    """Have bounded and smooth activations write to new memory where gradients are wanted.

    In place they would first copy their input, which their gradient needs; ReLU's needs only its
    output. Without gradients in place is quicker: an eighth of MobileNetV2's forward pass.

    Returns:
        What has them be as they were.
    """

    def choose(module: nn.Module, _given: object) -> None:
        module.inplace = not torch.is_grad_enabled()  # type: ignore[assignment]

    # ReLU6 is a Hardtanh. Those in place already: nothing else needs their input.
    found = [
        module
        for module in network.modules()
        if isinstance(module, nn.Hardtanh | nn.Hardswish | nn.SiLU) and module.inplace
    ]
    handles = [module.register_forward_pre_hook(choose) for module in found]

    def undo() -> None:
        for module, handle in zip(found, handles, strict=True):
            handle.remove()
            module.inplace = True

    return undo


def _around_if_right(
    cut: Cut, pictures: Tensor, A: Tensor, logits: Tensor
) -> tuple[Tensor, ...] | None:
    """What goes around; None unless every way to A and the logits gives the untouched ones."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # where torch.fx tells of errors
            if cut.halves and _holds_output(cut.halves[0](pictures[:1].clone())):
                return None
            found, whole, around = cut.forward(pictures)
            if not all(torch.is_tensor(t) and len(t) == len(pictures) for t in around):
                return None
            # Where it is split, forward has run the head, and not the whole.
            other = cut.whole(pictures[:1].clone()) if cut.halves else whole[:1]
            # Where gradients are wanted activations do not compute in place.
            with torch.enable_grad():
                again = cut.head(found, around)
    except Exception:  # graphs and changed modules can fail in any way
        return None
    right = close(found, A) and all(close(z, logits) for z in (whole, again))
    return around if right and close(other, logits[:1]) else None


def _holds_output(given: tuple[object, ...]) -> bool:
    """Whether what goes around a layer is its output itself: an in-place layer's input."""
    output, *around = given
    return any(share_memory(output, other) for other in around)


def _why_not(cut: Cut, pictures: Tensor, logits: Tensor, name: str) -> LcamError:
    """What to say of a network whose logits are not those of its features."""
    if not close(cut.whole(pictures.clone()), logits):
        return by_chance()
    return LcamError(
        f"what layer {cut.target.call.name} gives, put back in its place, does not give the logits "
        f"of {name}",
        "name another layer: --layer NAME; or give the network a forward() that uses what the "
        "layer returns",
    )
