"""``lcam evaluate``: how good are the maps of a file?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import typer

from lcam_cli.cli import backbone_options as b
from lcam_cli.cli import measure_options as m
from lcam_cli.cli import options as o
from lcam_cli.cli.console import Console, Interrupt
from lcam_cli.cli.measure_list import show_measures
from lcam_cli.images.depth import narrow_pictures
from lcam_cli.runs.evaluate import evaluate_maps
from lcam_cli.runs.evaluate_options import EvaluateOptions
from lcam_cli.runs.result_files import UnwrittenPageError


def _check_gate(value: float | None) -> float | None:
    """Return the value of a gate.

    Raises:
        typer.BadParameter: It is no number: every score would pass.
    """
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no percentage")
    return value


def evaluate(
    context: typer.Context,
    maps: Annotated[
        Path, typer.Argument(metavar="MAPS", help="The maps file of lcam explain.")
    ] = Path("maps.h5"),
    nu: m.Nus = None,
    metrics: m.Metrics = None,
    list_metrics: m.ListMetrics = False,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The pictures' folder, if it moved.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Whose maps, in a file of lcam compare's."),
    ] = None,
    attention: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|DIR",
            show_default="found under runs/",
            help="The attention that made the maps, if it moved; for measures that have the "
            "method explain again.",
        ),
    ] = None,
    format_: Annotated[
        Literal["table", "json", "csv", "markdown", "latex"],
        typer.Option("--format", help="Of the result."),
    ] = "table",
    intervals: m.Intervals = False,
    per_image: m.PerImageFile = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", show_default="stdout", help="Where the result goes."),
    ] = None,
    report: o.Report = None,
    max_ad: Annotated[
        float | None,
        typer.Option(
            metavar="X", callback=_check_gate, help="Exit 1 where AD is above X at any ν of --nu."
        ),
    ] = None,
    min_ic: Annotated[
        float | None,
        typer.Option(
            metavar="X", callback=_check_gate, help="Exit 1 where IC is below X at any ν of --nu."
        ),
    ] = None,
    mask_space: m.MaskSpace = "pixel",
    keep: m.Keep = "values",
    boxes: m.Boxes = None,
    masks: m.Masks = None,
    labels: m.Labels = None,
    floor: Annotated[
        bool, typer.Option("--floor/--no-floor", help="Score random maps too, as the floor.")
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what --out, --report and --per-image name.")
    ] = False,
    strict: o.Strict = False,
    backbone: b.Backbone = None,
    weights: b.Weights = None,
    layer: b.Layer = None,
    grid: b.Grid = None,
    activation: b.Activation = None,
    output: b.Output = None,
    classes: b.Classes = None,
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    batch_size: o.BatchSize = None,
    workers: o.Workers = None,
    seed: o.Seed = 0,
    max_pixels: o.MaxPixels = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    config: o.Config = None,
) -> None:
    """Score maps by Average Drop and Increase in Confidence.

    The maps file knows its pictures, backbone, weights and classes: nothing else is needed.
    Measures that have the method explain again make it anew, of what the file records.
    """
    interrupt = Interrupt()
    console = Console(quiet, interrupt=interrupt)
    if list_metrics:
        show_measures(format_, console)
        return
    options = EvaluateOptions(
        nu=m.parse_nus(nu),
        metrics=m.parse_metrics(metrics),
        images=images,
        method=method,
        attention=attention,
        labels=labels,
        mask_space=mask_space,
        keep=keep,
        boxes=boxes,
        masks=masks,
        per_image=per_image,
        floor=floor,
        max_ad=max_ad,
        min_ic=min_ic,
        out=out,
        format=format_,
        intervals=intervals,
        report=report,
        overwrite=overwrite,
        strict=strict,
        seed=seed,
        backbone=b.backbone_options(context.params),
        engine=o.engine_options(context.params),
    )
    context.with_resource(narrow_pictures.reported_to(console.warn))
    failed: UnwrittenPageError | None = None
    try:
        result = evaluate_maps(maps, options, reporter=console, stop=lambda: interrupt.stop)
    except UnwrittenPageError as error:  # the results are not lost with it
        failed, result = error, error.result
    if result.results is None:
        console.error("interrupted: no result", "run the same command again")
        raise typer.Exit(130)
    if out is None:
        from lcam_cli.reports.output import show_results

        show_results(result.results, format_, console, intervals=intervals)
    if failed is not None:
        raise failed
    if result.page is not None:
        console.info(f"the report is {result.page}")
    for message in result.missed_gates:
        console.error(message)
    if result.missed_gates:
        raise typer.Exit(1)
    raise typer.Exit(console.exit_code(result.skipped, result.skipped_what))
