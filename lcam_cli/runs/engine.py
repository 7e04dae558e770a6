"""The engine of a run: where the network runs, and where its maps are placed. Imports torch."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.engine.precision import Use
from lcam_cli.methods.base import Method
from lcam_cli.methods.placing import always_tiles, grid_of_maps, layers_of_cells
from lcam_cli.runs.half_precision import warn_of_emulation
from lcam_cli.runs.options import EngineOptions
from lcam_cli.runs.reporter import Reporter
from lcam_cli.scale.rank_info import RankInfo


def new_engine(
    backbone: Backbone, options: EngineOptions, reporter: Reporter, use: Use = "maps"
) -> Engine:
    """Make the engine, and say what it runs on."""
    engine = Engine(
        backbone,
        device=options.device,
        precision=options.precision,
        batch_size=options.batch_size,
        use=use,
    )
    identity = backbone.identity
    where = "no layer"
    if backbone.has_layer:
        K, P, Q = backbone.feature_shape
        where = f"layer {identity.layer} ({P}×{Q}×{K})"
    reporter.info(
        f"{identity.name}, {where}, {backbone.num_classes} classes; "
        f"{engine.hardware.name}, {engine.hardware.precision}, batch {engine.batch_size}"
    )
    warn_of_emulation(engine, reporter)
    if backbone.preprocess.channels == 1:
        reporter.info(f"{identity.name} has 1 input channel: colour becomes luminance")
    return engine


def note_unused_gpus(engine: Engine, rank_info: RankInfo, command: str, reporter: Reporter) -> None:
    """Say how to use all GPUs of a machine, where one of several is used."""
    if engine.device.type != "cuda" or rank_info.size > 1:
        return
    count = torch.cuda.device_count()
    if count > 1:
        reporter.info(
            f"using 1 of {count} GPUs; all: torchrun --nproc-per-node {count} -m lcam_cli "
            f"{command} …"
        )


def place_maps(engine: Engine, methods: Iterable[Method], align: bool, reporter: Reporter) -> None:
    """Have maps placed as asked (``--align``), and let the methods' records say where they are.

    In ``method.params``, ``align`` is what was asked for, None for maps that are not made of cells,
    and ``grid`` what came of it, None for an even tiling.
    """
    engine.align = align
    backbone = engine.backbone
    made_of_cells = []
    not_placed = []
    for method in methods:
        layers = layers_of_cells(method, backbone)
        grid = grid_of_maps(engine, method)
        placed = align and not always_tiles(method)
        method.params["align"] = placed if layers else None
        method.params["grid"] = (
            {"start": list(grid.start), "step": list(grid.step)} if grid else None
        )
        if layers:
            made_of_cells.append(method.name)
        if layers and placed and grid is None:
            not_placed.append((method.name, layers))
    if not_placed:
        unknown = {one for _, layers in not_placed for one in layers if not backbone.grid_of(one)}
        names = [name for name, _ in not_placed]
        whose = "" if names == made_of_cells else f" of {', '.join(names)}"
        reporter.warn(
            f"the positions of the cells of layer {', '.join(sorted(unknown))} are not known: the "
            f"maps{whose} tile the image evenly",
            once=True,
        )
