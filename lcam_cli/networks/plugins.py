"""Sources that other installed packages bring, by entry points of the group ``lcam.networks``.

An entry point is a callable ``load(name, weights, seed) -> Network``. One called ``zoo`` loads the
names ``zoo/…``.
"""

from __future__ import annotations

import sys
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path

from lcam_cli.errors import LcamError
from lcam_cli.networks.network import LoadNetwork, Network, check_network
from lcam_cli.networks.users_code import note_users_code, users_error
from lcam_cli.plugins import entry_points_of, load_function, plugin_code, plugin_name

GROUP = "lcam.networks"


def find_plugins() -> list[str]:
    """What the names of installed plug-ins begin with, ``zoo/``, in order; none of them is run."""
    return [f"{name}/" for name in entry_points_of(GROUP)]


def find_plugin(name: str) -> LoadNetwork | None:
    """What loads a name of an installed plug-in; its code runs only when that is called."""
    own, slash, _ = name.partition("/")
    point = entry_points_of(GROUP).get(own) if slash else None
    return None if point is None else partial(_load, point)


def _load(point: EntryPoint, name: str, weights: str, seed: int) -> Network:
    """Have a plug-in load a classifier.

    Raises:
        LcamError: Its own; or the plug-in fails in another way, or gives no classifier.
    """
    load = load_function(point, "network source")
    note_users_code(name, _root_of(point))
    who = plugin_name(point, "network source")
    with plugin_code(f"{who} failed on {name}", point.module):
        try:
            given: object = load(name, weights, seed)
        except LcamError:
            raise
        except Exception as error:
            if users := users_error(error, name, resumable=False):
                raise users from error
            raise
    network = check_network(given, who, name)
    network.name = name  # by which files find it again, whatever the package calls it
    return network


def _root_of(point: EntryPoint) -> Path:
    """Where a plug-in's code lies: its package's folder, or its one file."""
    top = sys.modules[point.module.partition(".")[0]]
    folders = list(getattr(top, "__path__", []))
    return Path(folders[0] if folders else str(top.__file__))
