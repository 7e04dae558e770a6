"""The paths of a run: given once, and meant in the working folder that the run began in."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

from lcam_cli.working_folder import RunPath

T = TypeVar("T")


def pinned(options: T) -> T:
    """Return options whose paths lead into the run's working folder, those of groups included."""
    return _with_paths(options, RunPath, grouped=True)


def plain(result: T) -> T:
    """Return a result whose paths are as the caller gave them."""
    return _with_paths(result, Path, grouped=False)


def _with_paths(value: T, kind: type[Path], *, grouped: bool) -> T:
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(value):  # type: ignore[arg-type]
        held = getattr(value, field.name)
        if isinstance(held, Path):
            changes[field.name] = kind(held)
        elif isinstance(held, tuple) and held and all(isinstance(one, Path) for one in held):
            changes[field.name] = tuple(map(kind, held))
        elif grouped and dataclasses.is_dataclass(held):
            changes[field.name] = _with_paths(held, kind, grouped=True)
    return dataclasses.replace(value, **changes)  # type: ignore[type-var]
