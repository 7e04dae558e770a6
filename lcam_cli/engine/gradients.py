"""Gradients: keeping them where a network's own code switches them off, and where they end.

``with torch.no_grad():`` within ``forward`` saves memory where nothing is trained. The logits
depend on the features all the same, and their gradient exists: it is only not recorded. Where an
operation knows no gradient, they end.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# What torch.no_grad() and torch.set_grad_enabled(False) call, within and as decorators.
_SWITCH = torch._C._set_grad_enabled


class KeepGradients(TorchFunctionMode):
    """While it is active nothing switches gradients off, except ``torch.inference_mode``.

    Attributes:
        asked: How often something tried to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Pass on every function but the one."""
        if func is _SWITCH and not args[0]:
            self.asked += 1
            return None
        return func(*args, **(kwargs or {}))


class FreshResults(TorchFunctionMode):
    """While it is active, what a ReLU or the like gives is a copy, which may be written to.

    The gradient of such a function is computed from its result. A network whose own code changes
    that in place, as ``y = relu(x); y += x``, could not go backward.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Copy the result of a function that keeps it."""
        output = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") not in _KEEP_THEIR_RESULT:
            return output
        # What ran in place gives the tensor that it was given, which others may hold.
        return output if any(output is one for one in args) else output.clone()


_KEEP_THEIR_RESULT = frozenset(
    {"relu", "sigmoid", "tanh", "exp", "sqrt", "rsqrt", "reciprocal", "softmax", "log_softmax"}
)
_WRITTEN_TO = "modified by an inplace operation"


def fails_by_writing(error: BaseException) -> bool:
    """Whether a backward pass failed because what it needs was written to in place."""
    return isinstance(error, RuntimeError) and _WRITTEN_TO in str(error)


def find_end_of_gradients(
    network: nn.Module, start: Tensor, run: Callable[[Tensor], Tensor]
) -> str:
    """Where gradients end between the logits ``run`` gives and its ``start``; empty if nowhere.

    A gradient that is zero is one: what else an image may give cannot be known.

    Args:
        network: What runs; its modules are looked at.
        start: Where gradients are wanted.
        run: Makes logits of it, (B, R).

    Returns:
        The reason, in words.
    """
    start = start.detach().clone().requires_grad_()
    why = _why_no_gradient(start, run)
    if not why:
        return ""
    ends: list[str] = []

    def look(name: str, module: nn.Module, given: tuple[object, ...], output: object) -> None:
        wanted = [t for t in given if torch.is_tensor(t) and t.requires_grad]
        if wanted and torch.is_tensor(output) and not _reached(output, wanted):
            ends.append(f"they end at {name} ({type(module).__name__})")

    with contextlib.ExitStack() as stack:
        for name, module in network.named_modules():
            if name:  # the innermost ends first
                handle = module.register_forward_hook(partial(look, name))
                stack.callback(handle.remove)
        _why_no_gradient(start, run)
    return ends[0] if ends else why


def _why_no_gradient(start: Tensor, run: Callable[[Tensor], Tensor]) -> str:
    """Why ``run(start)`` has no gradient at ``start``, in words; empty where it has one."""
    try:
        with torch.enable_grad():
            if _reached(run(start), [start]):
                return ""
    except RuntimeError as error:  # an operation that does not know its gradient
        return str(error).partition("\n")[0]
    return "its forward() computes them without gradients"


def _reached(output: Tensor, given: Sequence[Tensor]) -> bool:
    """Whether ``output`` has a gradient at one of the tensors that it was made of."""
    if not output.requires_grad:
        return False
    with warnings.catch_warnings():  # of operations that pass none on, which is what is asked
        warnings.simplefilter("ignore")
        found = torch.autograd.grad(output.sum(), given, retain_graph=True, allow_unused=True)
    return any(g is not None for g in found)


def for_autograd(tensor: Tensor) -> Tensor:
    """The same outside of ``torch.inference_mode``, whose tensors can take no part in gradients."""
    if tensor.is_inference() and not torch.is_inference_mode_enabled():
        return tensor.clone()
    return tensor


def gradient_of_logits(logits: Tensor, at: Tensor, *, again: bool = False) -> Tensor | None:
    """The gradient, at a tensor, of the logits (B, R) in a random sum; None where there is none.

    Not of their sum, which a LayerNorm makes constant.

    Args:
        logits: Made of ``at``.
        at: Where it is wanted; requires gradients.
        again: Whether the graph is needed once more.
    """
    return gradients_of_logits(logits, [at], again=again)[0]


def gradients_of_logits(
    logits: Tensor, at: Sequence[Tensor], *, again: bool = False
) -> list[Tensor | None]:
    """The same at several tensors, in one backward pass; None for all where one cannot be had."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(logits.shape, generator=generator).to(logits)
    try:
        with warnings.catch_warnings():  # of operations that pass none on
            warnings.simplefilter("ignore")
            found = torch.autograd.grad(
                (logits * weights).sum(), at, retain_graph=again, allow_unused=True
            )
    except RuntimeError:  # there is none, or what it needs was changed in place
        return [None] * len(at)
    return list(found)
