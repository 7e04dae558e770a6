"""The pictures that a caller names: one path, or several."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


def inputs_of(images: str | Path | Sequence[str | Path]) -> list[str]:
    """Return the inputs as text, as they would be typed."""
    several = [images] if isinstance(images, (str, Path)) else images
    return [os.fspath(one) for one in several]
