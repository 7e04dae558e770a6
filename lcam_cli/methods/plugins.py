"""Methods that other installed packages bring, by entry points of the group ``lcam.methods``.

An entry point is a callable ``make(backbone, options) -> Method``; its name is what users type.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import EntryPoint

from lcam_cli.engine.backbone import Backbone
from lcam_cli.errors import LcamError
from lcam_cli.methods.base import Method
from lcam_cli.methods.options import MethodOptions
from lcam_cli.plugins import TELL, entry_points_of, load_function, plugin_code, plugin_name

GROUP = "lcam.methods"

MakeMethod = Callable[[Backbone, MethodOptions], Method]
"""Makes a method for a backbone; raises LcamError where the two do not go together.

A package's may have attributes, as the lines of the registry do: ``layer`` is False where the
method does not look at the target layer, ``gradients`` True where it needs gradients there, and
``cells`` False where it does not put the layer's cells where ``forward.grid`` says they lie.
"""


def find_plugins() -> dict[str, EntryPoint]:
    """Installed plug-ins by name, in order of their names; none of their code runs yet."""
    return entry_points_of(GROUP)


def load_plugin(point: EntryPoint) -> MakeMethod:
    """Import a plug-in.

    Raises:
        LcamError: It fails; one line says how.
    """
    return load_function(point, "method")


def make_plugin(
    point: EntryPoint, make: MakeMethod, backbone: Backbone, options: MethodOptions
) -> Method:
    """Have a plug-in make its method.

    Raises:
        LcamError: Its own; or it fails in another way, or makes no method of its name.
    """
    name = plugin_name(point, "method")
    with plugin_code(f"{name} failed", point.module):
        method: object = make(backbone, options)
        return check_method(method, name, point.name)


def check_method(method: object, who: str, name: str = "") -> Method:
    """Check that something is a method: it can be called, and says what a method says.

    Args:
        method: What somebody's code gives.
        who: What it is called in messages.
        name: The name that it must have; empty for any.

    Raises:
        LcamError: It is none.
    """
    if isinstance(method, type) or not callable(method):
        kind = f"class {method.__name__}" if isinstance(method, type) else type(method).__name__
        raise LcamError(f"{who} does not make a method but a {kind}", TELL)
    missing = [one for one in Method.__annotations__ if not hasattr(method, one)]
    if missing:
        raise LcamError(f"{who} makes a method without {', '.join(missing)}", TELL)
    found, params, passes = (getattr(method, one) for one in Method.__annotations__)
    if not isinstance(found, str) or (name and found != name):
        raise LcamError(f"{who} makes a method with the name {found!r}, not {name!r}", TELL)
    if not isinstance(passes, int) or passes < 0:
        raise LcamError(f"{who}: its forward_passes are {passes!r}, not a number of passes", TELL)
    try:
        json.dumps(params, allow_nan=False)
        if not isinstance(params, dict):
            raise TypeError(f"a {type(params).__name__} is not a dict")
    except (TypeError, ValueError, RecursionError) as error:
        raise LcamError(
            f"{who}: its params are not a dict of JSON values: {error}", TELL
        ) from error
    return method  # type: ignore[return-value]
