"""The gradients of all class scores by the feature maps, averaged over positions and images.

A backward pass a class is slow: VGG-16 has 1,000 classes, and each would read the half gigabyte of
its head anew. So many classes go back at once, as matrix products. Where the head begins by
pooling, flattening and a linear layer, the largest product is not needed at all: of such a front
every output passes its whole gradient on to positions of its own channel, so that the sum over
positions needs only the sums of the linear layer's columns a channel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lcam_cli.engine.engine import Engine, Forward

_CLASSES_AT_ONCE = 64
_SAME = 1e-2  # of the norm: half precision rounds by less, and another head differs by more


def head_gradients(engine: Engine, forward: Forward) -> Tensor:
    """Mean gradients (R, K) of the logits of R classes by A.

    Args:
        engine: The engine; its logits have gradients at A.
        forward: A pass over some images.
    """
    with torch.enable_grad():
        A = forward.A.detach().clone().requires_grad_(True)
        with _linear_calls(engine.backbone.network) as calls:
            logits = engine.head(A, forward.around)
        totals = logits.sum(0)
        count = A.numel() // A.shape[1]
        if calls and (found := _by_columns(totals, A, calls[0])) is not None:
            return found / count
        return _gradients(totals, A, (0, 2, 3)) / count


@dataclass(frozen=True)
class _LinearCall:
    layer: nn.Linear
    given: Tensor
    output: Tensor


@contextmanager
def _linear_calls(network: nn.Module) -> Iterator[list[_LinearCall]]:
    """The calls of linear layers on rows, while the network runs."""
    calls: list[_LinearCall] = []

    def note(layer: nn.Module, given: tuple[object, ...], output: object) -> Tensor | None:
        row = given[0] if given else None
        if not (isinstance(row, Tensor) and isinstance(output, Tensor) and row.ndim == 2):
            return None
        assert isinstance(layer, nn.Linear)
        calls.append(_LinearCall(layer, row, output))
        return output.clone()  # which a ReLU in place may change

    with ExitStack() as stack:
        for module in network.modules():
            if type(module) is nn.Linear:
                stack.callback(module.register_forward_hook(note).remove)
        yield calls


def _by_columns(totals: Tensor, A: Tensor, first: _LinearCall) -> Tensor | None:
    """Sums (R, K) of gradients by the sums of a layer's columns; None where that is not the same.

    It is where the logits depend on A through this layer alone, and what the layer is given passes
    each of its gradients on, whole, within one channel. Both are tried with random numbers.
    """
    K, columns = A.shape[1], first.layer.in_features
    if columns % K or not (first.given.requires_grad and first.output.requires_grad):
        return None
    generator = torch.Generator().manual_seed(0)
    given, chosen = (torch.randn(n, generator=generator).to(totals) for n in (columns, len(totals)))
    try:
        passed_on = _gradient(first.given, A, given.expand_as(first.given))
        expected = _gradient(totals, A, chosen).sum((0, 2, 3))
        if not _same(passed_on.sum((2, 3)), _by_channel(given, K).expand(len(A), -1)):
            return None
        at_output = _gradients(totals, first.output, (0,))
    except RuntimeError:  # there is no gradient there, or it was changed in place
        return None
    found = at_output @ _by_channel(first.layer.weight.detach().to(at_output), K)
    return found if _same(chosen @ found, expected) else None


def _by_channel(values: Tensor, K: int) -> Tensor:
    """Sums (…, K) of what belongs to each channel, of flattened feature maps (…, K·P·Q)."""
    return values.reshape(*values.shape[:-1], K, -1).sum(-1)


def _same(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).norm() <= _SAME * expected.norm())


def _gradient(of: Tensor, at: Tensor, chosen: Tensor) -> Tensor:
    return torch.autograd.grad(of, at, chosen.to(of), retain_graph=True)[0].float()


def _gradients(totals: Tensor, at: Tensor, dims: Sequence[int]) -> Tensor:
    """Gradients of each of ``totals`` (R,) at a tensor (B, …), summed over some of its axes."""
    one_hot = torch.eye(len(totals), device=totals.device)
    within = [dim + 1 for dim in dims]
    parts = [
        _of_some(totals, at, some).sum(within) for some in torch.split(one_hot, _CLASSES_AT_ONCE)
    ]
    return torch.cat(parts).float()


def _of_some(totals: Tensor, at: Tensor, chosen: Tensor) -> Tensor:
    """Gradients (n, B, …) of the sums that the rows of ``chosen`` (n, R) pick.

    Together they are matrix products; one by one each reads all weights of the head anew.
    """
    try:
        return torch.autograd.grad(totals, at, chosen, retain_graph=True, is_grads_batched=True)[0]
    except RuntimeError:  # an operation of the head that cannot be batched
        one_by_one = [torch.autograd.grad(totals, at, one, retain_graph=True)[0] for one in chosen]
        return torch.stack(one_by_one)
