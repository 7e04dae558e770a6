"""One call of a module in a forward pass: reading what it gives, or putting something in its place.

A module may run several times in a pass, as the one ReLU of a beginner's network does. A hook sees
every run, so which one is meant is part of what a layer is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Call:
    """A module's call, counted from the last, as how often it runs may depend on the image.

    Attributes:
        name: The module's.
        later: How many calls of the module follow in the same pass; 0 for the last.
    """

    name: str
    later: int = 0


class KeptOutput:
    """What a call gave while the network ran.

    Attributes:
        count: How often the module has run.
    """

    def __init__(self, later: int) -> None:
        self.count = 0
        self._last: deque[object] = deque(maxlen=later + 1)

    def add(self, output: object) -> None:
        """Note another run."""
        self.count += 1
        self._last.append(output)

    @property
    def number(self) -> int:
        """Which of the runs the call was, from 0; negative where there were too few."""
        return self.count - (self._last.maxlen or 0)

    @property
    def output(self) -> object:
        """What the call gave; None where there were too few runs."""
        return self._last[0] if self.number >= 0 else None


@contextmanager
def hook(
    network: nn.Module, names: Iterable[str], on_output: Callable[[str, Any], Any]
) -> Iterator[None]:
    """Have ``on_output`` called with a module's name and what it gives, whenever one of these runs.

    What it returns takes the place of that, unless it is None.
    """

    def forward_hook(name: str) -> Callable[[nn.Module, object, object], object]:
        return lambda _module, _given, output: on_output(name, output)

    with ExitStack() as stack:
        for name in names:
            # Before hooks of the user's own, which may keep what the module gives.
            module = network.get_submodule(name)
            handle = module.register_forward_hook(forward_hook(name), prepend=True)
            stack.callback(handle.remove)
        yield


@contextmanager
def keep_outputs(network: nn.Module, calls: Iterable[Call]) -> Iterator[dict[str, KeptOutput]]:
    """Keep, by their modules' names, what calls give while the network runs.

    They are copies: what follows may change a module's output in place.
    """
    kept = {call.name: KeptOutput(call.later) for call in calls}

    def note(name: str, output: object) -> None:
        kept[name].add(output.clone() if torch.is_tensor(output) else output)

    with hook(network, kept, note):
        yield kept


@contextmanager
def replace_output(
    network: nn.Module, name: str, number: int, change: Callable[[Tensor], Tensor]
) -> Iterator[KeptOutput]:
    """Have one call give something else while the network runs.

    Args:
        network: The network.
        name: The module.
        number: Which of its calls, from 0.
        change: Given what the call gave, returns what it is to give.

    Yields:
        How often the module has run.
    """
    runs = KeptOutput(0)

    def put(_name: str, output: Tensor) -> Tensor | None:
        runs.add(None)
        return change(output) if runs.count == number + 1 else None

    with hook(network, [name], put):
        yield runs
