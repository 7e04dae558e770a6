"""Some of many images, chosen by the seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def sample(paths: Sequence[str], count: int | None, seed: int) -> list[str]:
    """Choose ``count`` of the images by the seed, keeping their order; all of them for None."""
    if count is None or count >= len(paths):
        return list(paths)
    chosen = np.random.default_rng([seed]).choice(len(paths), count, replace=False)
    return [paths[i] for i in np.sort(chosen)]
