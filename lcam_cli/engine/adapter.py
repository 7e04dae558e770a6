"""The forward that a network gets where its own gives no plain logits (B, R).

The network keeps its modules and their names: only its ``forward`` is replaced, by a subclass made
for this one network.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, fx, nn

from lcam_cli.engine import probabilities as p
from lcam_cli.engine.output import Choice

_BEFORE = "_lcam_before"


class Adapter:
    """What is done with what a network returns, and while it runs.

    Args:
        choice: Where its outputs are.
        kind: Its last step; ``""`` for none of those that give probabilities.
        comes_off: Whether that is taken off, and else undone.
        copies: Whether it is given a copy, since it changes that in place.
    """

    def __init__(self, choice: Choice, kind: Any, comes_off: bool, copies: bool) -> None:
        self._choice, self._kind, self._comes_off = choice, kind, comes_off
        self._copies = copies

    def __call__(self, run: Callable[[Any], Any], x: Any) -> Any:
        """Logits (B, R) of what the network's own forward, ``run``, gives for images ``x``."""
        choice = self._choice
        if self._copies:
            x = x.clone()
        if not self._comes_off:
            outputs = choice.shaped(choice.pick(run(x)))
            return p.logits_of(outputs, self._kind) if self._kind else outputs
        if isinstance(x, fx.Proxy):
            return choice.shaped(p.before_traced(choice.pick(run(x))))
        with p.LastSteps(choice.classes) as steps:
            output = choice.pick(run(x))
        found = steps.of(output)
        if found is None:  # it ends otherwise for this image
            return p.logits_of(choice.shaped(output), self._kind)
        return choice.shaped(found[1])


def adapted(module: nn.Module, adapter: Adapter) -> nn.Module:
    """The network with another forward, its parts and their names as they were."""
    cls = type(module)
    own = module.__dict__.pop("forward", None)  # set on this network alone

    def forward(self: nn.Module, x: Tensor) -> Any:
        return adapter(own or partial(cls.forward, self), x)

    attributes = {
        **{"forward": forward, "__module__": cls.__module__, "__doc__": cls.__doc__},
        _BEFORE: (cls, own),
    }
    module.__class__ = type(cls.__name__, (cls,), attributes)
    return module


def unadapted(module: nn.Module) -> nn.Module:
    """A network with the forward that it came with: it may be used a second time."""
    if hasattr(type(module), _BEFORE):
        cls, own = getattr(type(module), _BEFORE)
        module.__class__ = cls
        if own is not None:
            module.__dict__["forward"] = own
    return module
