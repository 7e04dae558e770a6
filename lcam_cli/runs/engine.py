"""The engine of a run: where the network runs, and where its maps are placed. Imports torch."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.methods.base import Method
from lcam_cli.methods.placing import grid_of_maps
from lcam_cli.runs.options import EngineOptions
from lcam_cli.runs.reporter import Reporter
from lcam_cli.scale.rank_info import RankInfo


def new_engine(backbone: Backbone, options: EngineOptions, reporter: Reporter) -> Engine:
    """Make the engine, and say what it runs on."""
    engine = Engine(
        backbone,
        device=options.device,
        precision=options.precision,
        batch_size=options.batch_size,
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


def place_maps(
    engine: Engine, methods: Iterable[Method], align: bool | None, reporter: Reporter
) -> None:
    """Have maps placed as asked (``--align``), and let the methods' records say where they are."""
    engine.align = align
    for method in methods:
        if align is not None:
            method.params["align"] = align
        grid = grid_of_maps(engine, method)
        method.params["grid"] = grid and {"start": [grid.start] * 2, "step": [grid.step] * 2}
    if align and engine.backbone.grid is None:
        reporter.warn(
            f"where the cells of layer {engine.backbone.identity.layer} lie is not known: maps "
            "tile the picture evenly"
        )
