"""Which method to take first: one list for all networks, whose order is backed by measurements.

docs/choosing.md shows the tables behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lcam_cli.methods.trained import fits_name

_SHOWN = 10


@dataclass(frozen=True)
class Preference:
    """A method, and why it is taken rather than those after it."""

    name: str
    reason: str


PREFERRED = (
    Preference("lcam", "it was trained for this network, and a map costs one forward pass"),
    Preference("tame", "it was trained for this network, and a map costs one forward pass"),
    Preference(
        "cam", "pooling and one linear layer follow the layer, so its weights give the exact map"
    ),
    Preference(
        "gae", "its classifier reads one token, and attention shows which patches that token reads"
    ),
    Preference("gradcam", "it costs little more than a forward pass and works with any head"),
    Preference("reciprocam", "it needs no gradients and runs only the head"),
    Preference("occlusion", "it needs only scores and costs a fraction of rise"),
)
"""The first of them that can explain a network is the one to take."""


def preferred(names: Iterable[str]) -> tuple[str, Preference] | None:
    """Find the method to take.

    Args:
        names: The methods that can explain a network; trained ones as their rows are called.

    Returns:
        Its name among them, and the line of ``PREFERRED``; None where none is in that list.
    """
    able = list(names)
    order = list(PREFERRED)
    if "gae" in able and "cam" not in able:
        # Of a vision transformer attention found the objects, and nothing learned did.
        order.sort(key=lambda one: one.name != "gae")
    for one in order:
        for name in able:
            if fits_name(name, one.name):
                return name, one
    return None


def advice(names: Sequence[str]) -> str:
    """A hint: which of the methods that can explain a network to take.

    Args:
        names: They, without the floor.
    """
    found = preferred(names)
    best = found[0] if found else next(iter(names), "")
    if not best:
        return ""
    others = [name for name in names if name != best]
    more = len(others) - _SHOWN
    listed = ", ".join(others[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return f"use {best}" + (f"; these methods also work: {listed}" if others else "")
