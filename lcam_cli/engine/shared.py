"""What several methods want to know of one batch, computed once for all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

Value = TypeVar("Value")


_CLASSES = 4
"""Of so many class choices gradients are kept; each is as large as the feature maps."""


@dataclass
class Shared:
    """Gradients of a batch, by what they are of and the classes that they explain.

    Attributes:
        saved: Seconds that were not spent because something was known already; whoever times a
            method adds what it saved.
    """

    saved: float = 0.0
    _known: list[tuple[Tensor, dict[Hashable, tuple[Any, float]]]] = field(default_factory=list)

    def get(self, key: Hashable, classes: Tensor, compute: Callable[[], Value]) -> Value:
        """Return what ``compute`` gives for these classes, the very tensor (B,), or gave before."""
        known = self._of(classes)
        if key in known:
            value, seconds = known[key]
            self.saved += seconds
            return cast(Value, value)
        began = _now(classes.device)
        computed = compute()
        known[key] = (computed, _now(classes.device) - began)
        return computed

    def put(self, key: Hashable, classes: Tensor, value: object) -> None:
        """Note what is known already."""
        self._of(classes)[key] = (value, 0.0)

    def _of(self, classes: Tensor) -> dict[Hashable, tuple[Any, float]]:
        """What is known of some classes; of the oldest ones it is forgotten."""
        for some, known in self._known:
            if some is classes:  # to compare numbers would wait for the device
                return known
        fresh: dict[Hashable, tuple[Any, float]] = {}
        self._known = [*self._known, (classes, fresh)][-_CLASSES:]
        return fresh


def _now(device: torch.device) -> float:
    """The time, once the device has done what it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()
