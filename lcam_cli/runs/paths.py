"""The paths that a run writes to: given once, and meant in the folder that the run began in."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

from lcam_cli.working_folder import RunPath

T = TypeVar("T")

# What is read is opened once, in the beginning.
_WRITTEN = ("out", "report", "figure", "state", "folder", "per_image", "by_class", "regions")


def pinned(options: T) -> T:
    """Return options whose paths for results lead into the run's working folder."""
    changes: dict[str, Any] = {}
    for name, value in _fields(options):
        if name in _WRITTEN and isinstance(value, tuple):
            changes[name] = tuple(map(RunPath, value))
        elif name in _WRITTEN and value is not None:
            changes[name] = RunPath(value)
        elif name == "overlays":
            changes[name] = pinned(value)
    return dataclasses.replace(options, **changes)  # type: ignore[type-var]


def plain(result: T) -> T:
    """Return a result whose paths are as the caller gave them."""
    changes = {name: Path(v) for name, v in _fields(result) if isinstance(v, RunPath)}
    return dataclasses.replace(result, **changes)  # type: ignore[type-var]


def _fields(value: Any) -> list[tuple[str, Any]]:
    return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
