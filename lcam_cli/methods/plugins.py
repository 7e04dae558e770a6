"""Methods that other installed packages bring, by entry points of the group ``lcam.methods``.

An entry point is a callable ``make(backbone, options) -> Method``; its name is what users type.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint

from lcam_cli.engine.backbone import Backbone
from lcam_cli.methods.base import Method
from lcam_cli.methods.options import MethodOptions
from lcam_cli.plugins import entry_points_of, load_function

GROUP = "lcam.methods"

MakeMethod = Callable[[Backbone, MethodOptions], Method]
"""Makes a method for a backbone; raises LcamError where the two do not go together."""


def find_plugins() -> dict[str, EntryPoint]:
    """Installed plug-ins by name, in order of their names; none of their code runs yet."""
    return entry_points_of(GROUP)


def load_plugin(point: EntryPoint) -> MakeMethod:
    """Import a plug-in.

    Raises:
        LcamError: It fails; one line says how.
    """
    return load_function(point, "method")
