"""Where the cells of a method's maps lie in the image, for the record."""

from __future__ import annotations

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.engine.grid import Grid
from lcam_cli.methods.base import Method
from lcam_cli.methods.plugins import find_plugins
from lcam_cli.methods.registry import METHODS, find_method
from lcam_cli.plugins import is_own


def layers_of_cells(method: Method, backbone: Backbone) -> list[str]:
    """Return the layers whose cells a method's maps are made of.

    Returns:
        Their names, the layer of ``/cam`` in a maps file first; empty where maps are not made of a
        layer's cells: RISE's, and those of a package's method that says so.
    """
    several: list[str] = getattr(method, "layers", []) if is_own(method) else []
    if several:
        return several
    known = method.name in METHODS if is_own(method) else method.name in find_plugins()
    made_of_cells = not known or find_method(method.name).cells
    return [backbone.identity.layer] if made_of_cells and backbone.has_layer else []


def grid_of_maps(engine: Engine, method: Method) -> Grid | None:
    """Tell whether a method's maps are placed by the receptive fields of their cells.

    Returns:
        The grid of the cells (those of ``/cam`` in a maps file); None where they tile the image
        evenly, as those of a method do that was trained so, or where the map has none.
    """
    if always_tiles(method):
        return None
    layers = layers_of_cells(method, engine.backbone)
    grids = engine.grids_of(layers) if layers else None
    return grids[0] if grids else None


def always_tiles(method: Method) -> bool:
    """Whether a method's cells tile the image wherever their receptive fields lie."""
    return is_own(method) and getattr(method, "tiles", False) is True
