"""A frozen network in half precision: its weights are cast once, not anew in every batch.

One rule says what is computed in which type. Up to the target layer everything is computed in half
precision. Behind it the last linear layer is computed in float32, and all else too where that is a
small share of the work. Batch norms keep their weights and statistics in float32. What comes out is
float32.

A module casts what it is given to the type of its weights, so that a network gives the same however
it is run: whole, in two graphs (``engine.split``), or with hooks. A network whose own code mixes
types, and does not run so, is run by autocast.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn

from lcam_cli.engine.cut import Cut
from lcam_cli.engine.device import PRECISIONS, is_out_of_memory
from lcam_cli.engine.rounding import rounded
from lcam_cli.errors import LcamError, one_line

_SMALL_WORK = 0.02
"""A head of this share of the network's products, or less, is computed in float32, …"""
_SMALL_WEIGHTS = 8_000_000
"""… unless it has more weights: to read VGG-16's 124 million takes as long as much work."""

_HALVES = (torch.bfloat16, torch.float16)

NEAR = 0.1
"""So much of their norm half precision may change features and logits."""
_WORSE = 2.0
"""A way that is so many times as far from float32 as another one is wrong, not rounded."""

_GRADIENT_SCALE = 2.0**10
"""Of gradients in a network in float16, whose smallest number is 6e-8."""


@dataclass(frozen=True)
class Way:
    """How a network computes; without arguments in float32.

    Attributes:
        dtype: The type of what it is given.
        keeps: Weights that stay in float32, beside those of batch norms.
        float_head: Whether the target layer's output is float32 for what follows.
        cast: Whether weights are cast.
        autocast: Whether each operation casts what it is given; that takes time.
        difference: How far from float32 features and logits are, as a share of their norm.
        failed: Why the quicker ways do not run, one line; empty where they do.
    """

    dtype: torch.dtype = torch.float32
    keeps: Sequence[Tensor] = ()
    float_head: bool = False
    cast: bool = True
    autocast: bool = False
    difference: float = 0.0
    failed: str = ""

    def running(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        """The context to run the network in."""
        if not self.autocast:
            return contextlib.nullcontext()
        return torch.autocast(device.type, self.dtype)

    def enter(self, given: Tensor) -> Tensor:
        """What the network is given: floats in its type."""
        given = self.enter_head(given)
        return given.to(self.dtype) if self.cast else given

    def enter_head(self, A: Tensor) -> Tensor:
        """Feature maps for the head; their gradients come out as large as they are."""
        if self._scales and A.requires_grad:
            A = A.view_as(A)
            A.register_hook(_smaller)  # type: ignore[no-untyped-call]
        return A

    def leave(self, logits: Tensor) -> Tensor:
        """What it gives, in float32; gradients that go back into it are scaled until they leave."""
        logits = logits.float()
        if self._scales and logits.requires_grad:
            logits.register_hook(_larger)  # type: ignore[no-untyped-call]
        return logits

    @property
    def gradient_scale(self) -> float:
        """How many times too large gradients are inside the network."""
        return _GRADIENT_SCALE if self._scales else 1.0

    @property
    def _scales(self) -> bool:
        return self.dtype == torch.float16 and self.cast


@dataclass(frozen=True)
class Exact:
    """What a network gives for test images in float32.

    Attributes:
        A: Features, (B, K, P, Q).
        logits: (B, R).
        around: What goes around the target layer.
    """

    A: Tensor
    logits: Tensor
    around: tuple[Tensor, ...]


def cast_network(
    network: nn.Module,
    name: str,
    cut: Cut | None,
    exact: Exact,
    dtype: torch.dtype,
    run: Callable[[Way], tuple[Tensor, Sequence[Tensor]]],
) -> tuple[Way, Callable[[], None]]:
    """Cast a frozen network to half precision, in the first way in which it runs right.

    Args:
        network: In float32, where it is to run.
        name: What the user calls it, for messages.
        cut: It, cut at its target layer; None where it shows no layers.
        exact: What it gives for test images in float32.
        dtype: bfloat16 or float16.
        run: Gives features of these images, and their logits by every manner of running it.

    Returns:
        The way taken, and what brings the weights in float32 back; it keeps them in memory.

    Raises:
        LcamError: It runs in none.
    """
    ran: list[Way] = []
    errors: list[str] = []
    for way in _ways(network, cut, exact, dtype):
        undo = apply(way, network, cut)
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # where torch.fx tells of errors
                A, logits = run(way)
        except Exception as error:  # anybody's code can fail in any way
            if is_out_of_memory(error):
                undo()
                raise
            errors.append(one_line(error))
        else:
            apart = max(distance(A, exact.A), *(distance(z, exact.logits) for z in logits))
            ran.append(replace(way, difference=apart, failed=errors[0] if errors else ""))
            if apart <= NEAR:
                return ran[-1], undo
        undo()
    if not ran:
        raise LcamError(
            f"{name} does not compute in {short(dtype)}: {errors[-1]}", "use --precision fp32"
        )
    # None is near: that is what rounding does to such a network.
    least = min(way.difference for way in ran)
    taken = next(way for way in ran if way.difference <= _WORSE * least)
    return taken, apply(taken, network, cut)


def _ways(network: nn.Module, cut: Cut | None, exact: Exact, dtype: torch.dtype) -> Iterator[Way]:
    """Ways to try, the best first."""
    head: list[Tensor] = []
    if cut is not None and cut.halves is not None:
        head = _small_head(cut, exact) or _without_module(cut.halves[1])
    last = [t for module in _last_linear(network, exact.logits.shape[1]) for t in _tensors(module)]
    yield Way(dtype, (*last, *head), float_head=True)
    yield Way(dtype)
    yield Way(dtype, autocast=True)
    yield Way(dtype, cast=False, autocast=True)


def _last_linear(network: nn.Module, classes: int) -> list[nn.Module]:
    """The last linear layers, those that make the logits."""
    linear = [m for m in network.modules() if isinstance(m, nn.Linear)]
    return list(takewhile(lambda m: m.out_features == classes, reversed(linear)))


def _without_module(graph: nn.Module) -> list[Tensor]:
    """What a graph uses beside its modules, such as a matrix of the network's own code."""
    plain = [m for m in graph.modules() if type(m) is nn.Module or m is graph]
    return [t for module in plain for t in _own_tensors(module)]


def _small_head(cut: Cut, exact: Exact) -> list[Tensor]:
    """The weights of all that follows the target layer; none where they are much of the work."""
    assert cut.halves is not None
    before = {id(t): t for t in _tensors(cut.halves[0])}
    own = [t for t in _tensors(cut.halves[1]) if id(t) not in before]
    if sum(t.numel() for t in own) > _SMALL_WEIGHTS:
        return []
    places = exact.A.shape[0] * exact.A[0, 0].numel()
    # Each weight before the layer is used at its P·Q places at least.
    features = places * sum(t.numel() for t in before.values())
    return own if _products(cut, exact, places) <= _SMALL_WORK * features else []


def _products(cut: Cut, exact: Exact, places: int) -> float:
    """How many products the head's layers take; one that is no layer is at work at all places."""
    assert cut.halves is not None
    total = 0.0

    def count(module: nn.Module, _given: object, output: object) -> None:
        nonlocal total
        for weight in module.parameters(recurse=False):
            if weight.ndim > 1:
                uses = output.numel() / len(weight) if torch.is_tensor(output) else places
                total += weight.numel() * uses

    with contextlib.ExitStack() as stack:
        for module in cut.halves[1].modules():
            stack.callback(module.register_forward_hook(count).remove)
        cut.head(exact.A, exact.around)
    return total


@contextlib.contextmanager
def in_float32(part: nn.Module) -> Iterator[None]:
    """Have the weights of a network, or of a part, be float32 for a while, rounded as they are."""
    halves = {id(t): (t, t.data) for t in _tensors(part) if t.dtype in _HALVES}
    for tensor, data in halves.values():
        tensor.data = data.float()
    try:
        yield
    finally:
        for tensor, data in halves.values():
            tensor.data = data


def apply(way: Way, network: nn.Module, cut: Cut | None) -> Callable[[], None]:
    """Cast weights, and have modules cast what they are given; returns what undoes it."""
    if not way.cast:
        return lambda: None
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = {id(t) for t in (*way.keeps, *(t for norm in norms for t in _own_tensors(norm)))}
    parts = [network, *((cut.halves or ()) if cut else ())]
    before = []
    for tensor in {id(t): t for part in parts for t in _tensors(part)}.values():
        if tensor.dtype == torch.float32 and id(tensor) not in kept:
            before.append((tensor, tensor.data))
            tensor.data = rounded(tensor.data, way.dtype)
    handles = [
        module.register_forward_pre_hook(_give_own_type)
        for module in network.modules()
        if _takes_own_type(module)
    ]
    if way.float_head and cut is not None:
        target = network.get_submodule(cut.target.call.name)
        handles.append(target.register_forward_hook(_float))
    if cut is not None:
        cut.dtype, cut.head_dtype = way.dtype, None if way.float_head else way.dtype

    def undo() -> None:
        for handle in handles:
            handle.remove()
        for tensor, data in before:
            tensor.data = data
        if cut is not None:
            cut.dtype, cut.head_dtype = torch.float32, None

    return undo


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _own_tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters(recurse=False)
    yield from module.buffers(recurse=False)


def _takes_own_type(module: nn.Module) -> bool:
    # A batch norm gives what it is given, whatever the type of its weights.
    special = nn.modules.batchnorm._BatchNorm | torch.jit.ScriptModule
    return not isinstance(module, special) and _own_type(module) is not None


def _own_type(module: nn.Module) -> torch.dtype | None:
    """The type of a module's own weights; None where it has none."""
    if "_packed_params" in module._modules:  # quantised weights, for activations in float32
        return torch.float32
    for tensors in (module._parameters, module._buffers):
        for tensor in tensors.values():
            if tensor is not None and tensor.is_floating_point():
                return tensor.dtype
    return None


def _give_own_type(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """A hook before a module: floats are given in the type of its weights."""
    dtype = _own_type(module)
    if all(not _differs(one, dtype) for one in given):
        return None
    cast = {id(one): one.to(dtype) for one in given if _differs(one, dtype)}
    return tuple(cast.get(id(one), one) for one in given)  # what was one tensor still is one


def _differs(value: object, dtype: torch.dtype | None) -> bool:
    return torch.is_tensor(value) and value.is_floating_point() and value.dtype != dtype


def _float(_module: nn.Module, _given: object, output: Any) -> object:
    """A hook behind a module: it gives float32."""
    return output.float() if _differs(output, torch.float32) else None


def _larger(gradient: Tensor) -> Tensor:
    return gradient * _GRADIENT_SCALE


def _smaller(gradient: Tensor) -> Tensor:
    return gradient / _GRADIENT_SCALE


def short(dtype: torch.dtype) -> str:
    """The name of a precision, as the user types it."""
    return next(name for name, known in PRECISIONS.items() if known == dtype)


def distance(found: Tensor, expected: Tensor) -> float:
    """How far tensors are from others, as a share of their norm; infinite for no numbers."""
    finite = expected.isfinite()
    if found.shape != expected.shape or not found[finite].isfinite().all():
        return float("inf")
    size = float(expected[finite].norm())
    away = float((found[finite] - expected[finite]).norm())
    return away / size if size else (0.0 if not away else float("inf"))
