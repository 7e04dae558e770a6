"""Where the cells of a method's maps lie in the picture, for the record."""

from __future__ import annotations

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.engine.grid import Grid
from lcam_cli.methods.base import Method
from lcam_cli.methods.plugins import find_plugins
from lcam_cli.methods.registry import find_method
from lcam_cli.methods.rise import Rise
from lcam_cli.methods.sise import Sise
from lcam_cli.methods.tame import TameMethod
from lcam_cli.plugins import is_own


def layers_of_cells(method: Method, backbone: Backbone) -> list[str]:
    """Return the layers whose cells a method's maps are made of.

    Returns:
        Their names, the layer of ``/cam`` in a maps file first; empty where maps are not made of a
        layer's cells, as RISE's and those of a package's method that needs no layer.
    """
    if isinstance(method, TameMethod | Sise):
        return method.layers
    needs_none = (
        not is_own(method) and method.name in find_plugins() and not find_method(method.name).layer
    )
    if isinstance(method, Rise) or needs_none or not backbone.has_layer:
        return []
    return [backbone.identity.layer]


def grid_of_maps(engine: Engine, method: Method) -> Grid | None:
    """Tell whether a method's maps are placed by the receptive fields of their cells.

    Returns:
        The grid of the cells (those of ``/cam`` in a maps file); None where they tile the picture
        evenly, or where the map has none.
    """
    layers = layers_of_cells(method, engine.backbone)
    grids = engine.grids_of(layers) if layers else None
    return grids[0] if grids else None
