"""Methods that other installed packages bring, by entry points of the group ``lcam.methods``.

An entry point is a callable ``make(backbone, options) -> Method``; its name is what users type.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

from lcam_cli.engine.backbone import Backbone
from lcam_cli.errors import LcamError
from lcam_cli.methods.base import Method
from lcam_cli.methods.options import MethodOptions

GROUP = "lcam.methods"

MakeMethod = Callable[[Backbone, MethodOptions], Method]
"""Makes a method for a backbone; raises LcamError where the two do not go together."""


def find_plugins() -> dict[str, EntryPoint]:
    """Installed plug-ins by name, in order of their names; none of their code runs yet."""
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=_place)}


def load_plugin(point: EntryPoint) -> MakeMethod:
    """Import a plug-in.

    Raises:
        LcamError: It fails; one line says how.
    """
    try:
        make = point.load()
    except Exception as error:  # importing runs the plug-in's code: it can fail in any way
        why = f"{type(error).__name__}: {error}".splitlines()[0]
    else:
        if callable(make):
            return make  # type: ignore[no-any-return]
        why = f"{point.value} is no function"
    raise LcamError(f"the plug-in method {point.name!r} ({point.value}) does not load: {why}")


def _place(point: EntryPoint) -> tuple[str, str]:
    return point.name, point.value
