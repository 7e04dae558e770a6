"""Where the cells of a method's maps lie in the picture, for the record."""

from __future__ import annotations

from lcam_cli.engine.engine import Engine
from lcam_cli.engine.grid import Grid
from lcam_cli.methods.base import Method
from lcam_cli.methods.rise import Rise
from lcam_cli.methods.tame import layers_of


def grid_of_maps(engine: Engine, method: Method) -> Grid | None:
    """Tell whether a method's maps are placed by the receptive fields of their cells.

    Returns:
        The grid of the cells (those of ``/cam`` in a maps file); None where they tile the picture
        evenly, or where the map has none, as RISE's.
    """
    training = method.params.get("training", {})
    aligned = bool(training.get("align"))
    if isinstance(method, Rise):
        return None
    if layers := layers_of(training):
        grids = engine.grids_of(layers, aligned)
        return grids[0] if grids else None
    return engine.grid(aligned)
