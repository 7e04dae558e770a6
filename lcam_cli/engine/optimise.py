"""The quickest way to run a network that is right: one that gives what it gave untouched.

Batch norms are folded, activations save memory, and the network is split at its target layer. Any
of these may change what a network gives, so every way is compared with the untouched network before
it is taken.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lcam_cli.engine.comparing import close, share_memory
from lcam_cli.engine.cut import Cut
from lcam_cli.engine.flow import random_logits
from lcam_cli.engine.folding import replace_batch_norms, replace_module
from lcam_cli.engine.gradients import gradient_of_logits
from lcam_cli.engine.split import split
from lcam_cli.errors import LcamError


@torch.no_grad()
def optimise(
    cut: Cut, pictures: Tensor, name: str, *, keep_modules: bool = False
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Change how a network computes to the quickest way that gives what it gave untouched.

    Args:
        cut: The network, run whole so far.
        pictures: Two, (2, C, H, W), or one where they go through it one by one.
        name: What the user calls the network, for messages.
        keep_modules: Whether all modules stay as they are, and nothing is computed from their
            weights; then only the split makes it quicker.

    Returns:
        A of them, and what goes around the layer.

    Raises:
        LcamError: A put back in the layer's place does not give the logits, in any way.
    """
    A, logits, around = cut.forward(pictures)
    _, gradient = _logits_and_gradient(cut, A, around)
    # Another picture than those that tell whether a way is right: what the network keeps of a pass,
    # and a trace takes for a constant, is wrong for them.
    other = pictures[:1].flip(2)
    undo = None if keep_modules else _optimise_modules(cut, other)
    # A trace leaves out what is only decided on values; folding, what happens beside a call.
    for quick in (True, False) if undo else (False,):
        if undo and not quick:
            undo()
        for halves in (_halves(cut, other), None):
            cut.halves = halves
            found = _around_if_right(cut, pictures, A, logits, gradient)
            if found is not None:
                return A, found
    raise _refusal(cut, pictures, logits, name)


def _halves(cut: Cut, picture: Tensor) -> tuple[nn.Module, nn.Module] | None:
    """The network in two; None where it cannot be split."""
    cut.halves = None
    try:
        cut.whole(picture)
    except Exception:  # a changed network can fail in any way
        return None
    return split(cut.network, cut.target.call, picture)


def _optimise_modules(cut: Cut, picture: Tensor) -> Callable[[], None]:
    """Fold batch norms, and have activations save memory; returns what undoes it."""
    replaced = replace_batch_norms(cut.network, cut.target.call.name, picture)
    undo_in_place = _in_place_without_gradients(cut.network)

    def undo() -> None:
        undo_in_place()
        for name, module in replaced.items():
            replace_module(cut.network, name, module)

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
    cut: Cut, pictures: Tensor, A: Tensor, logits: Tensor, gradient: Tensor | None
) -> tuple[Tensor, ...] | None:
    """What goes around; None unless A, logits and gradient are the untouched network's."""
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
            again, g = _logits_and_gradient(cut, found, around)
    except Exception:  # graphs and changed modules can fail in any way
        return None
    right = close(found, A) and all(close(z, logits) for z in (whole, again))
    right = right and _same_gradient(g, gradient)
    return around if right and close(other, logits[:1]) else None


def _logits_and_gradient(
    cut: Cut, A: Tensor, around: Sequence[Tensor]
) -> tuple[Tensor, Tensor | None]:
    """The logits of A, and at A the gradient of a sum of them; None where there is none.

    A trace looks into functions that have a gradient of their own, and would take another.
    """
    start = A.detach().clone().requires_grad_()
    with torch.enable_grad():
        logits = cut.head(start, around)
        return logits.detach(), gradient_of_logits(logits, start)


def _same_gradient(found: Tensor | None, expected: Tensor | None) -> bool:
    """Whether a gradient is the expected one, as a whole: rounding may turn a few units off."""
    if expected is None or not expected.isfinite().all():
        return True
    return found is not None and bool((found - expected).norm() <= 1e-2 * expected.norm())


def _holds_output(given: tuple[object, ...]) -> bool:
    """Whether what goes around a layer is its output itself: an in-place layer's input."""
    output, *around = given
    return any(share_memory(output, other) for other in around)


def _refusal(cut: Cut, pictures: Tensor, logits: Tensor, name: str) -> LcamError:
    """What to say of a network whose logits are not those of its features."""
    if not close(cut.whole(pictures.clone()), logits):
        return random_logits()
    return LcamError(
        f"what layer {cut.target.call.name} gives, put back in its place, does not give the logits "
        f"of {name}",
        "name another layer: --layer NAME; or give the network a forward() that uses what the "
        "layer returns",
    )
