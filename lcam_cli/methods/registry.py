"""The names that ``--method`` knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lcam_cli.errors import LcamError, did_you_mean
from lcam_cli.methods.base import Method
from lcam_cli.methods.gradient import GradCam
from lcam_cli.methods.noise import RandomMap


@dataclass(frozen=True)
class Entry:
    """One line of ``--list-methods``: what it is, and how it is made (from the run's seed)."""

    summary: str
    make: Callable[[int], Method]


METHODS: dict[str, Entry] = {
    "gradcam": Entry("gradients averaged to channel weights (Selvaraju 2017)", lambda _: GradCam()),
    "random": Entry("noise: the floor any method must beat", RandomMap),
}

# `lcam` is made from an attention file, not from a name alone.
LCAM_SUMMARY = "the trained attention of this project's run (Gkartzonika 2022); needs lcam train"


def make_method(name: str, *, seed: int = 0) -> Method:
    """Make a method that needs no training.

    Raises:
        LcamError: No method has that name.
    """
    if name not in METHODS:
        raise LcamError(
            f"unknown method {name!r}",
            f"{did_you_mean(name, METHODS)} `lcam explain --list-methods` lists all.".strip(),
        )
    return METHODS[name].make(seed)
