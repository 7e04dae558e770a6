"""The quickest way to run a network that is right: one that gives what it gave untouched.

Batch norms are folded, activations save memory, and the network is split at its target layer. Any
of these may change what a network gives, so every way is compared with the untouched network before
it is taken.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lcam_cli.engine.comparing import close, share_memory
from lcam_cli.engine.cut import Cut
from lcam_cli.engine.flow import OnePass, random_logits
from lcam_cli.engine.folding import replace_batch_norms, replace_module
from lcam_cli.engine.gradients import gradient_of_logits
from lcam_cli.engine.layers import choose_target, target_by_gradients
from lcam_cli.engine.plain import PlainClassifier
from lcam_cli.engine.split import split
from lcam_cli.errors import LcamError
from lcam_cli.networks.foreign import ForeignNetwork


@dataclass(frozen=True)
class Found:
    """What the images gave in the way that is taken.

    Attributes:
        A: Feature maps of the target layer.
        around: What goes around it.
        differentiable: Whether the logits have a gradient at A.
    """

    A: Tensor
    around: tuple[Tensor, ...]
    differentiable: bool


@dataclass(frozen=True)
class _Untouched:
    """What the untouched network gives: logits of all images, and of the last A and gradient."""

    A: Tensor
    logits: Tensor
    gradient: Tensor | None


def cut_at_target(
    plain: PlainClassifier,
    name: str,
    layer: str | None,
    pictures: Tensor,
    grid: tuple[int, int] | None,
    *,
    keep_modules: bool = False,
) -> tuple[Cut, Found] | None:
    """Cut a network at its target layer, with as few passes as tell that it is right.

    Args:
        plain: The classifier.
        name: What the user calls it, for messages.
        layer: The layer's name as typed; None to find one.
        pictures: Two, (2, C, H, W).
        grid: P and Q of a transformer's patches, where the user says so.
        keep_modules: As for :func:`optimise`.

    Returns:
        The network, cut, and what the images gave; None where it shows no layer.

    Raises:
        LcamError: As :func:`~.layers.choose_target` and :func:`optimise`.
    """
    network, picture = plain.module, pictures[:1]
    # Its logits are known for the first image.
    is_known = plain.takes_several and torch.equal(plain.picture, picture)
    if layer is None and is_known and not isinstance(network, ForeignNetwork):
        known = target_by_gradients(network, pictures[1:], grid)
        if known is not None:
            cut = Cut(network, known[0])
            found = _split_by_gradients(cut, pictures, plain.logits, known[1], keep_modules)
            if found is not None:
                return cut, found
    target = choose_target(network, name, layer, picture, grid)
    if target is None:
        return None
    cut = Cut(network, target)
    some = pictures if plain.takes_several else picture
    return cut, optimise(cut, some, name, keep_modules=keep_modules)


@torch.no_grad()
def _split_by_gradients(
    cut: Cut, pictures: Tensor, first: Tensor, last: OnePass, keep_modules: bool
) -> Found | None:
    """Split a network in the quickest way, if that gives what two passes before gave.

    Where the halves give both images' logits, and the last one's A and gradient, then A put back
    in its place gives the logits, and there is nothing more to try: most networks need no more
    than this, and the first map comes sooner by the passes that are left out.

    Args:
        cut: The network, run whole so far; as it was where None is returned.
        pictures: Two, (2, C, H, W).
        first: Logits (1, R) of the first, from the untouched network.
        last: What the untouched network gave for the second.
        keep_modules: As for :func:`optimise`.
    """
    if first.shape != last.logits.shape:
        return None
    untouched = _Untouched(last.A, torch.cat([first, last.logits]), last.gradient)
    # The last pass was of the second image: what the network kept of it is wrong for the first.
    other = pictures[:1].flip(2)
    undo = None if keep_modules else _optimise_modules(cut, other)
    cut.halves = split(cut.network, cut.target.call, other)
    found = None
    if cut.halves:
        found = _found_if_right(cut, pictures, untouched, is_changed=undo is not None)
    if found is None or not found.differentiable:
        cut.halves = None
        if undo:
            undo()
        return None
    return found


@torch.no_grad()
def optimise(cut: Cut, pictures: Tensor, name: str, *, keep_modules: bool = False) -> Found:
    """Change how a network computes to the quickest way that gives what it gave untouched.

    Args:
        cut: The network, run whole so far.
        pictures: Two, (2, C, H, W), or one where they go through it one by one.
        name: What the user calls the network, for messages.
        keep_modules: Whether all modules stay as they are, and nothing is computed from their
            weights; then only the split makes it quicker.

    Raises:
        LcamError: A put back in the layer's place does not give the logits, in any way.
    """
    A, logits, around = cut.forward(pictures)
    untouched = _Untouched(A, logits, _gradient_of_one(cut, A, around))
    other = pictures[:1].flip(2)
    undo = None if keep_modules else _optimise_modules(cut, other)
    # What the network keeps of a pass, and a trace takes for a constant, must be wrong for one of
    # the images that tell whether a way is right. The last pass was of one of two.
    kept_is_wrong = len(pictures) > 1
    # A trace leaves out what is only decided on values; folding, what happens beside a call.
    for quick in (True, False) if undo else (False,):
        if undo and not quick:
            undo()
        runs = kept_is_wrong or _runs(cut, other)
        kept_is_wrong = False
        for halves in (split(cut.network, cut.target.call, other) if runs else None, None):
            cut.halves = halves
            found = _found_if_right(cut, pictures, untouched)
            if found is not None:
                return found
    raise _refusal(cut, pictures, logits, name)


def _runs(cut: Cut, picture: Tensor) -> bool:
    """Run the network, and tell whether it can: a changed one can fail in any way."""
    cut.halves = None
    try:
        cut.whole(picture)
    except Exception:
        return False
    return True


def _optimise_modules(cut: Cut, picture: Tensor) -> Callable[[], None] | None:
    """Fold batch norms, and have activations save memory.

    Returns:
        What undoes it; None where there was nothing to do.
    """
    replaced = replace_batch_norms(cut.network, cut.target.call.name, picture)
    undo_in_place = _in_place_without_gradients(cut.network)
    if not (replaced or undo_in_place):
        return None

    def undo() -> None:
        if undo_in_place:
            undo_in_place()
        for name, module in replaced.items():
            replace_module(cut.network, name, module)

    return undo


def _in_place_without_gradients(network: nn.Module) -> Callable[[], None] | None:
    """Have bounded and smooth activations write to new memory where gradients are wanted.

    In place they would first copy their input, which their gradient needs; ReLU's needs only its
    output. Without gradients in place is quicker: an eighth of MobileNetV2's forward pass.

    Returns:
        What has them be as they were; None where there are none.
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

    return undo if found else None


def _found_if_right(
    cut: Cut, pictures: Tensor, untouched: _Untouched, *, is_changed: bool = True
) -> Found | None:
    """What a way gives; None unless A, logits and gradient are the untouched network's.

    ``is_changed``: whether modules of the network itself were, so that it must be run whole too.
    """
    logits = untouched.logits
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # where torch.fx tells of errors
            if cut.halves:
                given = cut.halves[0](pictures.clone())
                if _holds_output(given):
                    return None
                found, around = cut.read(given)
                whole = cut.head(found, around)
            else:
                found, whole, around = cut.forward(pictures)
            if not all(torch.is_tensor(t) and len(t) == len(pictures) for t in around):
                return None
            # Where it is split, only the halves have run, and not the whole.
            runs_whole = cut.halves and is_changed
            other = cut.whole(pictures[:1].clone()) if runs_whole else whole[:1]
            # Where gradients are wanted activations do not compute in place.
            with torch.enable_grad():
                again = cut.head(found.clone().requires_grad_(), around).detach()
            g = _gradient_of_one(cut, found, around)
    except Exception:  # graphs and changed modules can fail in any way
        return None
    right = close(found[-len(untouched.A) :], untouched.A) and all(
        close(z, logits) for z in (whole, again)
    )
    right = right and _same_gradient(g, untouched.gradient)
    right = right and close(other, logits[:1])
    return Found(found, around, g is not None) if right else None


def _gradient_of_one(cut: Cut, A: Tensor, around: Sequence[Tensor]) -> Tensor | None:
    """The gradient, at A of the last image, of a sum of its logits; None where there is none.

    A trace looks into functions that have a gradient of their own, and would take another. One
    image tells, and a network that is run whole runs again for it.
    """
    start = A[-1:].detach().clone().requires_grad_()
    with torch.enable_grad():
        return gradient_of_logits(cut.head(start, [t[-1:] for t in around]), start)


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
        f"running {name} from the output of layer {cut.target.call.name} does not give the same "
        f"logits",
        "pass another layer: --layer NAME, or write a forward() that uses what the layer returns",
    )
