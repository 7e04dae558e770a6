"""How long a method takes for a map: derived from its passes, and from how long these take."""

from __future__ import annotations

from typing import Literal

from lcam_cli.engine.pass_times import PassTimes

Pass = Literal[
    "none",
    "head",
    "backward to the layer",
    "two backward to the layer",
    "forward",
    "forward and backward to the layer",
    "forward and backward",
    "attention",
    "attention and backward",
]
"""What a method runs besides the forward pass that all share."""

_TWICE = 3.0
"""A Hessian's product costs a backward pass of the head, and one of that."""


_BEGINS_WITH = ("forward and backward", "attention", "attention and backward")
"""A method of one such pass takes it for the forward pass that others share."""


def seconds_of_map(
    each: Pass, passes: int, times: PassTimes, *, again: bool = False
) -> float | None:
    """Derive how long a map takes on images that come in batches.

    Args:
        each: What each of the method's passes runs.
        passes: How many there are.
        times: How long they take.
        again: Whether the forward pass that tells the class is never one of them.

    Returns:
        Seconds; None where the network has no such pass.
    """
    back = times.head_backward
    ran = {
        "none": 0.0,
        "head": times.head,
        "backward to the layer": back,
        "two backward to the layer": back and _TWICE * back,
        "forward": times.forward,
        "forward and backward to the layer": back and times.forward + back,
        "forward and backward": times.backward,
        "attention": times.attention,
        "attention and backward": times.attention_backward,
    }[each]
    if ran is None:
        return None
    begins_with_it = passes == 1 and each in _BEGINS_WITH and not again
    return passes * ran + (0.0 if begins_with_it else times.forward)
