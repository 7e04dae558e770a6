"""``lcam compare``: several methods on the same pictures, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lcam_cli.cli import backbone_options as b
from lcam_cli.cli import measure_options as m
from lcam_cli.cli import options as o
from lcam_cli.cli.console import Console
from lcam_cli.cli.measure_list import show_measures
from lcam_cli.errors import Interrupted, LcamError
from lcam_cli.images.depth import narrow_pictures
from lcam_cli.runs.compare import compare_folder
from lcam_cli.runs.compare_options import CompareOptions
from lcam_cli.scale.rank_info import RankInfo


def compare(
    context: typer.Context,
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGES", help="Pictures, folders of them, or - for stdin."),
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|GROUP[,...]",
            show_default="one-pass",
            help="What to compare: names or groups of lcam explain --list-methods, lcam-img, "
            "lcam-fm; all; one-pass, what one forward pass serves.",
        ),
    ] = None,
    attention: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE|DIR",
            show_default="the newest run",
            help="A trained attention. Repeatable.",
        ),
    ] = None,
    nu: m.Nus = None,
    metrics: m.Metrics = None,
    list_metrics: m.ListMetrics = False,
    class_: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            metavar="NAME|INDEX",
            show_default="the predicted class",
            help="The class to explain. Repeatable.",
        ),
    ] = None,
    labels: m.Labels = None,
    max_images: o.MaxImages = None,
    format_: Annotated[
        Literal["table", "json", "csv", "markdown", "latex"],
        typer.Option("--format", help="Of the result."),
    ] = "table",
    intervals: m.Intervals = False,
    per_image: m.PerImageFile = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.h5", help="Keep all maps, a group a method."),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw some maps: pictures across, methods down."),
    ] = None,
    report: o.Report = None,
    rise_masks: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", show_default="the paper's", help="Masks of rise."),
    ] = None,
    rise_cells: Annotated[
        int, typer.Option(min=1, metavar="N", help="Cells a side of rise's masks.")
    ] = 7,
    rise_p: Annotated[
        float, typer.Option(metavar="X", help="Share of rise's cells that are kept.")
    ] = 0.5,
    mask_space: m.MaskSpace = "pixel",
    keep: m.Keep = "values",
    boxes: m.Boxes = None,
    masks: m.Masks = None,
    floor: Annotated[
        bool, typer.Option("--floor/--no-floor", help="Compare random maps too, as the floor.")
    ] = True,
    resume: Annotated[
        bool, typer.Option("--resume", help="Take over what an earlier run finished.")
    ] = False,
    state: Annotated[
        Path, typer.Option(metavar="DIR", help="Where what is finished is kept for --resume.")
    ] = Path("runs/compare"),
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace what --out, --figure, --report and --per-image name."
        ),
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
    """Compare methods on the same pictures: the paper's Table 1 and Fig. 3.

    A row a method: Average Drop and Increase in Confidence at each ν, forward passes, speed. Rows
    marked ≈ do not differ significantly from the best.
    """
    rank_info = RankInfo.of_environment()
    console = Console(quiet, follows=rank_info.rank > 0)
    if list_metrics:
        show_measures(format_, console)
        return
    if not images:
        raise LcamError("no pictures to compare on", "name files or folders: lcam compare ./photos")
    options = CompareOptions(
        methods=o.parse_methods(methods),
        attentions=tuple(attention or ()),
        nu=m.parse_nus(nu),
        metrics=m.parse_metrics(metrics),
        class_names=tuple(class_ or ()),
        labels=labels,
        out=out,
        figure=figure,
        report=report,
        rise_masks=rise_masks,
        rise_cells=rise_cells,
        rise_p=rise_p,
        mask_space=mask_space,
        keep=keep,
        boxes=boxes,
        masks=masks,
        per_image=per_image,
        floor=floor,
        resume=resume,
        state=state,
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
    context.with_resource(narrow_pictures.reported_to(console.warn))
    try:
        result = compare_folder(images, options, reporter=console)
    except Interrupted as stop:
        from lcam_cli.scale.ranks import RESUME

        console.error(f"interrupted; {stop}", RESUME)
        raise typer.Exit(130) from None
    if result.results is None:  # the first rank has it
        return
    from lcam_cli.reports.output import show_results

    show_results(result.results, format_, console, intervals=intervals)
    if result.results.skipped:
        console.warn(f"{result.results.skipped} of the inputs are in no row (exit code 3)")
    raise typer.Exit(3 if result.results.skipped or result.failed else 0)
