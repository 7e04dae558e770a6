"""``lcam evaluate``: how good are the maps of a file?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lcam_cli.cli import backbone_options as b
from lcam_cli.cli import gate_options as g
from lcam_cli.cli import measure_options as m
from lcam_cli.cli import options as o
from lcam_cli.cli.console import Console, Interrupt
from lcam_cli.cli.measure_list import show_measures
from lcam_cli.images.depth import narrow_pictures
from lcam_cli.runs.evaluate import evaluate_maps
from lcam_cli.runs.evaluate_options import EvaluateOptions
from lcam_cli.runs.result_files import UnwrittenPageError


def evaluate(
    context: typer.Context,
    maps: Annotated[
        Path,
        typer.Argument(
            metavar="MAPS", help="A maps file from lcam explain, or its folder of PNG files."
        ),
    ] = Path("maps.h5"),
    nu: m.Nus = None,
    metrics: m.Metrics = None,
    list_metrics: m.ListMetrics = False,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the images, if it moved.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The method to score, in a file from lcam compare."),
    ] = None,
    attention: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|DIR",
            show_default="found under runs/",
            help="The attention that made the maps, if it moved; needed by measures that explain "
            "again.",
        ),
    ] = None,
    format_: o.ResultFormat = None,
    intervals: m.Intervals = False,
    per_image: m.PerImageFile = None,
    by_class: m.ByClass = None,
    out: o.Out = None,
    report: o.Report = None,
    max_ad: g.MaxAd = None,
    min_ic: g.MinIc = None,
    worse_than: g.WorseThan = None,
    by: g.By = None,
    mask_space: m.MaskSpace = "pixel",
    keep: m.Keep = "values",
    boxes: m.Boxes = None,
    masks: m.Masks = None,
    labels: m.Labels = None,
    floor: o.Floor = True,
    overwrite: o.Overwrite = False,
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

    The maps file knows its images, backbone, weights and classes, so nothing else is needed.
    """
    interrupt = Interrupt()
    console = Console(quiet, interrupt=interrupt)
    if list_metrics:
        show_measures(format_ or "table", console)
        return
    targets = o.result_targets(context)
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
        by_class=by_class,
        floor=floor,
        max_ad=g.parse_thresholds(max_ad),
        min_ic=g.parse_thresholds(min_ic),
        worse_than=worse_than,
        by=by,
        out=targets.files,
        format=targets.file_format,
        intervals=intervals,
        report=report,
        overwrite=overwrite,
        strict=strict,
        seed=seed,
        backbone=b.backbone_options(context.params),
        engine=o.engine_options(context.params),
    )
    context.with_resource(console.working())
    context.with_resource(narrow_pictures.reported_to(console.warn))
    failed: UnwrittenPageError | None = None
    try:
        result = evaluate_maps(maps, options, reporter=console, stop=lambda: interrupt.stop)
    except UnwrittenPageError as error:  # the results are not lost with it
        failed, result = error, error.result
    if result.results is None:
        console.error("interrupted: no result", "run the same command again")
        raise typer.Exit(130)
    if targets.shown:
        from lcam_cli.reports.output import show_results

        show_results(result.results, targets.shown_format, console, intervals=intervals)
    if failed is not None:
        raise failed
    if result.page is not None:
        console.info(f"wrote the report to {result.page}; open it in a browser")
    elif not result.missed_gates:
        own = b.own_backbone(context.params)
        console.next("lcam", "evaluate", maps, *own, "--report", "report")
    for message in result.missed_gates:
        console.error(message)
    if not result.missed_gates and (max_ad, min_ic, worse_than) != (None, None, None):
        console.info("all gates passed")
    if result.missed_gates:
        raise typer.Exit(1)
    raise typer.Exit(console.exit_code(result.skipped, result.skipped_what))
