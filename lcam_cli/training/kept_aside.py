"""Which images a run keeps aside: it is never trained on them, and judged on them alone."""

from __future__ import annotations

import numpy as np

FEWEST_PICTURES = 10
"""With fewer in all, none is kept aside: what is left would teach little, and they tell little."""

_AT_LEAST = 4
_AT_MOST = 400
"""More images cost more time at the end of a run, and tell hardly more."""

_STREAM = 1
"""Keeps the draw apart from the order of the images, which the same seed draws."""


def choose_aside(pictures: int, share: float, seed: int) -> list[int]:
    """Choose the images that are kept aside.

    Args:
        pictures: How many there are in all.
        share: How many of them are kept aside, in [0, 0.5]: to the nearest, but at least 4 and at
            most 400.
        seed: Of the draw.

    Returns:
        Their places, ascending; none where ``share`` is 0 or there are fewer than 10 in all.
    """
    if not share or pictures < FEWEST_PICTURES:
        return []
    count = min(max(round(share * pictures), _AT_LEAST), _AT_MOST)
    draw = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAM,)))
    return sorted(draw.permutation(pictures)[:count].tolist())
