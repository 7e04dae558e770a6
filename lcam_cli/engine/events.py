"""The calls of a network's modules in one forward pass, and what each gave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from lcam_cli.engine.comparing import share_memory
from lcam_cli.engine.tokens import Clues, Layout, find_layout


@dataclass
class Event:
    """One module's call, in the order the calls ended.

    Attributes:
        name: The module's.
        number: Which of its calls, from 0.
        module: The module.
        given: Its first argument.
        output: What it gave; the tensor itself, so that ``is`` tells equal ones.
        layout: How that is read as feature maps; None where it has no places.
        clues: What else tells how outputs are to be read.
        version: How often the output had been changed in place when the call ended; None where it
            is no tensor, or where PyTorch does not count.
    """

    name: str
    number: int
    module: nn.Module
    given: object
    output: object
    layout: Layout | None
    clues: Clues
    version: int | None = None

    @property
    def own_layout(self) -> Layout | None:
        """The layout that its shape alone tells, whatever ``--grid`` says."""
        return find_layout(self.output, None, self.clues)

    @property
    def is_unchanged(self) -> bool:
        """Whether the output still holds what the call gave: nothing changed it in place since."""
        return self.version is not None and self.version == _version_of(self.output)

    @property
    def in_place(self) -> bool:
        """Whether it gave back what it was given, changed or not."""
        return share_memory(self.given, self.output)

    @property
    def spatial_layout(self) -> Layout:
        """The layout of one that has places."""
        assert self.layout is not None
        return self.layout

    @property
    def channels(self) -> int:
        """K of one that has places."""
        return self.spatial_layout.to_maps(cast(Tensor, self.output)).shape[1]


def record(
    network: nn.Module, picture: Tensor, grid: tuple[int, int] | None
) -> tuple[list[Event], Tensor]:
    """Run a network on an image, (1, C, H, W): the calls of its modules, and the logits (1, R).

    Args:
        network: The classifier.
        picture: (1, C, H, W).
        grid: P and Q of a transformer's patches, where the user says so.
    """
    clues = Clues.of(network, (picture.shape[2], picture.shape[3]))
    events: list[Event] = []
    runs: dict[str, int] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[object, ...], object], None]:
        def hook(module: nn.Module, given: tuple[object, ...], output: object) -> None:
            number = runs[name] = runs.get(name, -1) + 1
            layout = find_layout(output, grid, clues)
            # Outputs stay referenced here, so `is` compares live tensors.
            first = given[0] if given else None
            version = _version_of(output)
            events.append(Event(name, number, module, first, output, layout, clues, version))

        return hook

    handles = [
        # Before hooks of the user's own, which may keep what the module gives.
        module.register_forward_hook(note(name), prepend=True)
        for name, module in network.named_modules()
        if name and not isinstance(module, torch.jit.ScriptModule)  # which takes no hooks
    ]
    try:
        logits = cast(Tensor, network(picture))
    finally:
        for handle in handles:
            handle.remove()
    return events, logits


def _version_of(value: object) -> int | None:
    """How often a tensor has been changed in place; None where that is not counted."""
    return value._version if torch.is_tensor(value) and not value.is_inference() else None
