"""Entry points of other installed packages."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from lcam_cli.errors import LcamError


def entry_points_of(group: str) -> dict[str, EntryPoint]:
    """Return the installed entry points of a group by name; none of their code runs yet."""
    points = sorted(entry_points(group=group), key=lambda point: (point.name, point.value))
    return {point.name: point for point in points}


def load(point: EntryPoint, kind: str) -> Any:
    """Import what an entry point names, something that can be called.

    Args:
        point: The entry point.
        kind: What it brings, in words.

    Raises:
        LcamError: It fails; one line says how.
    """
    try:
        loaded = point.load()
    except Exception as error:  # importing runs the package's code: it can fail in any way
        why = f"{type(error).__name__}: {error}".splitlines()[0]
    else:
        if callable(loaded):
            return loaded
        why = f"{point.value} is no function"
    raise LcamError(f"the plug-in {kind} {point.name!r} ({point.value}) does not load: {why}")
