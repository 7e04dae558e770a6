"""The pictures that a caller names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

Inputs = str | Path | Sequence[str | Path]
"""Pictures, folders of them or tars: a path, or several."""


def listed(inputs: Inputs) -> list[str]:
    """Return inputs as a list of paths."""
    paths = [inputs] if isinstance(inputs, str | Path) else inputs
    return [os.fspath(path) for path in paths]
