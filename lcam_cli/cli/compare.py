"""``lcam compare``: several methods on the same images, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lcam_cli.cli import backbone_options as b
from lcam_cli.cli import completion
from lcam_cli.cli import gate_options as g
from lcam_cli.cli import measure_options as m
from lcam_cli.cli import options as o
from lcam_cli.cli.console import Console
from lcam_cli.cli.measure_list import show_measures
from lcam_cli.errors import Interrupted, LcamError
from lcam_cli.images.depth import narrow_pictures
from lcam_cli.runs.compare import compare_folder
from lcam_cli.runs.compare_options import DEFAULT_STATE, CompareOptions
from lcam_cli.scale.rank_info import RankInfo


def compare(
    context: typer.Context,
    images: o.Images = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|GROUP[,...]",
            autocompletion=completion.methods,
            show_default="one-pass",
            help="What to compare: names or groups of lcam explain --list-methods, lcam-img, "
            "lcam-fm, all, or one-pass (methods that share one forward pass).",
        ),
    ] = None,
    attention: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE|DIR",
            show_default="the newest run",
            help="A trained attention, from lcam train. Repeatable.",
        ),
    ] = None,
    nu: m.Nus = None,
    metrics: m.Metrics = None,
    list_metrics: m.ListMetrics = False,
    class_: o.ClassNames = None,
    labels: m.Labels = None,
    max_images: o.MaxImages = None,
    format_: o.ResultFormat = None,
    intervals: m.Intervals = False,
    per_image: m.PerImageFile = None,
    by_class: m.ByClass = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE|-",
            show_default="stdout",
            help="FILE.h5 saves all maps, one HDF5 group per method. Other files get the result, "
            "in the format of their extension (.json, .csv, .md, .tex, .txt); - is stdout. "
            "Repeatable.",
        ),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png|pdf|svg",
            help="Draw some maps: a column per image, a row per method.",
        ),
    ] = None,
    show: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[,...]",
            show_default="8 images, all methods",
            help="What --figure shows: images by file name (cat.jpg), and methods.",
        ),
    ] = None,
    report: o.Report = None,
    rise_masks: o.RiseMasks = None,
    rise_cells: o.RiseCells = 7,
    rise_p: o.RiseP = 0.5,
    max_ad: g.MaxAd = None,
    min_ic: g.MinIc = None,
    worse_than: g.WorseThan = None,
    by: g.By = None,
    mask_space: m.MaskSpace = "pixel",
    keep: m.Keep = "values",
    boxes: m.Boxes = None,
    masks: m.Masks = None,
    floor: o.Floor = True,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    state: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder that keeps finished methods for --resume.")
    ] = DEFAULT_STATE,
    state_limit: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="GB",
            help="Size of all comparisons kept in that folder; the oldest are deleted first.",
        ),
    ] = 10,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace existing output."),
    ] = False,
    fit: o.Fit = None,
    align: o.Align = True,
    strict: o.Strict = False,
    backbone: b.Backbone = None,
    weights: b.Weights = None,
    layer: b.Layers = None,
    contrast: o.Contrast = None,
    fuse: o.Fuse = None,
    grid: b.Grid = None,
    activation: b.Activation = None,
    output: b.Output = None,
    classes: b.Classes = None,
    channels: b.Channels = None,
    image_size: b.ImageSize = None,
    resize: b.Resize = None,
    mean: b.Mean = None,
    std: b.Std = None,
    window: b.Window = None,
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    batch_size: o.BatchSize = None,
    workers: o.Workers = None,
    seed: o.Seed = 0,
    max_pixels: o.MaxPixels = None,
    null: o.Null = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    config: o.Config = None,
) -> None:
    """Compare methods on the same images (the paper's Table 1).

    One row per method: Average Drop and Increase in Confidence at each ν, forward passes, speed.
    Rows marked ≈ do not differ significantly from the best.
    """
    rank_info = RankInfo.of_environment()
    console = Console(quiet, follows=rank_info.rank > 0)
    if list_metrics:
        show_measures(format_ or "table", console)
        return
    if not images:
        raise LcamError("no images to compare on", "pass files or folders: lcam compare ./photos")
    targets = o.result_targets(context, maps=True)
    options = CompareOptions(
        methods=o.parse_methods(methods),
        attentions=tuple(attention or ()),
        nu=m.parse_nus(nu),
        metrics=m.parse_metrics(metrics),
        class_names=tuple(class_ or ()),
        labels=labels,
        out=targets.files,
        format=targets.file_format,
        intervals=intervals,
        figure=figure,
        show=o.parse_methods(show) or (),
        report=report,
        rise_masks=rise_masks,
        rise_cells=rise_cells,
        rise_p=rise_p,
        mask_space=mask_space,
        keep=keep,
        boxes=boxes,
        masks=masks,
        per_image=per_image,
        by_class=by_class,
        max_ad=g.parse_thresholds(max_ad),
        min_ic=g.parse_thresholds(min_ic),
        worse_than=worse_than,
        by=by,
        floor=floor,
        resume=resume,
        state=state,
        state_limit=state_limit,
        overwrite=overwrite,
        align=align,
        seed=seed,
        pictures=o.picture_options(context.params),
        contrast=contrast,
        layers=b.several_layers(layer),
        fuse=fuse,
        backbone=b.backbone_options(context.params),
        engine=o.engine_options(context.params),
    )
    context.with_resource(console.working())
    context.with_resource(narrow_pictures.reported_to(console.warn))
    try:
        result = compare_folder(images, options, reporter=console)
    except Interrupted as stop:
        from lcam_cli.scale.ranks import RESUME

        console.error(f"interrupted; {stop}", RESUME)
        raise typer.Exit(130) from None
    if result.results is None:  # the first rank has it
        return
    if targets.shown:
        from lcam_cli.reports.output import show_results

        show_results(result.results, targets.shown_format, console, intervals=intervals)
    if result.page is None and not result.missed_gates:
        console.info("next: the same line with --report DIR, for a page with every image")
    for message in result.missed_gates:
        console.error(message)
    if not result.missed_gates and (max_ad, min_ic, worse_than) != (None, None, None):
        console.info("all gates passed")
    if result.results.skipped:
        console.warn(f"{result.results.skipped} of the inputs are not in any row (exit code 3)")
    if result.missed_gates:
        raise typer.Exit(1)
    raise typer.Exit(3 if result.results.skipped or result.failed else 0)
