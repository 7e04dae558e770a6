"""What other installed packages bring: methods, measures, network sources and picture formats.

A package names it in an entry point of a group of ours, as ``lcam.methods``; the entry point's name
is what users type. None of the package's code runs before :func:`load`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from lcam_cli.errors import LcamError


def entry_points_of(group: str) -> dict[str, EntryPoint]:
    """Installed plug-ins of a group by name, in order of their names; none of their code runs."""
    found = sorted(entry_points(group=group), key=lambda point: (point.name, point.value))
    return {point.name: point for point in found}


def load(entry_point: EntryPoint, kind: str) -> object:
    """Import what an entry point names.

    Args:
        entry_point: One of :func:`entry_points_of`.
        kind: What its group holds, for the error: ``"method"``, ``"network source"``.

    Raises:
        LcamError: Importing it fails, in whatever way; one line says how. Or several packages
            bring one of that name, and which is meant cannot be known.
    """
    named = entry_points(group=entry_point.group, name=entry_point.name)
    values = sorted({point.value for point in named} | {entry_point.value})
    if len(values) > 1:
        raise LcamError(
            f"the plug-in {kind} {entry_point.name!r} comes from several packages: "
            f"{', '.join(values)}",
            "keep one of them installed",
        )
    try:
        return entry_point.load()
    except Exception as error:  # importing runs the plug-in's code: it can fail in any way
        raise _fails(
            entry_point, kind, f"{type(error).__name__}: {error}".splitlines()[0]
        ) from error


def load_function(entry_point: EntryPoint, kind: str) -> Callable[..., Any]:
    """Import the function that an entry point names.

    Raises:
        LcamError: As :func:`load`; or what it names cannot be called.
    """
    loaded = load(entry_point, kind)
    if not callable(loaded):
        raise _fails(entry_point, kind, f"{entry_point.value} is no function")
    return loaded


def _fails(entry_point: EntryPoint, kind: str, why: str) -> LcamError:
    name, value = entry_point.name, entry_point.value
    return LcamError(f"the plug-in {kind} {name!r} ({value}) does not load: {why}")
