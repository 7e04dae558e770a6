"""What a network gives for two images, alone and together: what it does besides giving logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lcam_cli.engine.output import Choice
from lcam_cli.errors import one_line


class Probe:
    """What a network gives for two images, alone and together, and for one of them again.

    Attributes:
        pair: Its output for both together; None where it fails.
        changes_input: Whether it changes what it is given in place.
    """

    def __init__(self, module: nn.Module, picture: Tensor, alone: Any) -> None:
        self.other = picture.flip(3) / 2  # of values that pass where the image's do
        both = torch.cat([picture, self.other])
        self._failed = ""
        try:
            self.pair: Any = module(both)
        except Exception as error:  # code that accepts only one image at a time can fail in any way
            self.pair, self._failed = None, one_line(error)
        self._alone = [alone, module(self.other)]
        given = picture.clone()
        self._again = module(given)
        self.changes_input = given._version > 0

    def rows(self, choice: Choice) -> Tensor:
        """The outputs of the two images alone, (2, R)."""
        return torch.cat([self._row(one, choice) for one in self._alone])

    def notes(self, name: str, choice: Choice) -> list[str]:
        """What is odd about the outputs."""
        notes = []
        if choice.squeezed:
            notes.append(
                f"{name} returns {_shape(choice.pick(self._alone[0]))} for one image and "
                f"{_shape(choice.pick(self.pair))} for two: its squeeze() drops the batch axis of "
                "a single image (lcam restores it; flatten(1) would keep it)"
            )
        if self._varies(choice):
            most = _apart(self._row(self._again, choice), self._row(self._alone[0], choice))
            notes.append(
                f"{name} returns different outputs for the same image every time (they differ by "
                f"{most:.2g}): its forward() uses random numbers, dropout or counters, so maps "
                "will differ too"
            )
        return notes

    def why_one_by_one(self, name: str, choice: Choice) -> str:
        """Why images must go through it one by one, in words; ``""`` where they need not."""
        if self._failed:
            return f"{name} accepts only one image at a time ({self._failed})"
        if self._varies(choice):
            return ""
        alone, both = self.rows(choice), choice.shaped(choice.pick(self.pair))
        if torch.allclose(alone, both, rtol=1e-3, atol=_small(alone), equal_nan=True):
            return ""
        return (
            f"{name} returns other outputs for an image in a batch than for the same image alone "
            "(they differ by "
            f"{_apart(alone, both):.2g})"
        )

    def _varies(self, choice: Choice) -> bool:
        first, again = (self._row(o, choice) for o in (self._alone[0], self._again))
        return not torch.allclose(first, again, rtol=1e-3, atol=_small(first), equal_nan=True)

    def _row(self, output: Any, choice: Choice) -> Tensor:
        row: Tensor = choice.shaped(choice.pick(output))
        return row


def _small(logits: Tensor) -> float:
    """Rounding, against the largest: those of random weights may be of any size."""
    return 1e-4 * max(1.0, float(logits.abs().max()))


def _apart(one: Tensor, two: Tensor) -> float:
    return float((one - two).abs().max())


def _shape(value: Tensor) -> tuple[int, ...]:
    return tuple(value.shape)
