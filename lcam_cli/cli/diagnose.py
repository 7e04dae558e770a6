"""``lcam diagnose``: why are images misclassified, and which classes may be biased?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lcam_cli.cli import backbone_options as b
from lcam_cli.cli import completion
from lcam_cli.cli import options as o
from lcam_cli.cli.console import Console, Interrupt
from lcam_cli.errors import LcamError
from lcam_cli.images.depth import narrow_pictures
from lcam_cli.measures.error_groups import DEFAULT_RULES
from lcam_cli.runs.diagnose import diagnose_folder
from lcam_cli.runs.diagnose_options import AUTO, DiagnoseOptions


def diagnose(
    context: typer.Context,
    images: o.Images = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|folders",
            help="True classes: a file of NAME CLASS lines, or the folder names.",
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            autocompletion=completion.method,
            help="The method that makes the maps; lcam methods lists all.",
        ),
    ] = "lcam",
    second_method: Annotated[
        str,
        typer.Option(
            metavar="NAME|auto|none",
            autocompletion=completion.method,
            help="A second method, to show which errors it puts into another group.",
        ),
    ] = AUTO,
    attention: o.AttentionRun = None,
    nu: Annotated[
        float,
        typer.Option(
            metavar="PERCENT",
            help="Percentage of pixels in a class's region, those with the highest map values.",
        ),
    ] = DEFAULT_RULES.nu,
    same_region: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="X",
            help="Overlap (IoU) from which two regions count as the same.",
        ),
    ] = DEFAULT_RULES.same_region,
    evidence: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="X",
            help="Share of the predicted class's score that the true class must reach in some "
            "region.",
        ),
    ] = DEFAULT_RULES.evidence,
    max_images: o.MaxImages = None,
    format_: Annotated[
        Literal["table", "json", "csv", "markdown"] | None,
        typer.Option(
            "--format", show_default="that of --out, else table", help="Format of the result."
        ),
    ] = None,
    out: o.Out = None,
    figure: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png|pdf|svg",
            help="Draw the clearest cases of each group, with both maps.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write an HTML report with every misclassified image; opens offline.",
        ),
    ] = None,
    overwrite: o.Overwrite = False,
    fit: o.Fit = None,
    align: o.Align = True,
    strict: o.Strict = False,
    backbone: b.Backbone = None,
    weights: b.Weights = None,
    layer: b.Layer = None,
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
    """Find out why images are misclassified.

    Compares the maps of the true and the predicted class, and puts each misclassified image into
    one group: same region (both maps mark it), right on own region (shown only the region of the
    true class, the classifier is right), or too little evidence (the true class scores low
    everywhere). Then ranks the classes by how likely a bias is.
    """
    interrupt = Interrupt()
    console = Console(quiet, interrupt=interrupt)
    if not images:
        raise LcamError("no images to diagnose", "pass files or folders: lcam diagnose ./photos")
    if labels is None:
        raise LcamError(
            "no labels: the true classes are not known",
            "pass --labels folders, or --labels FILE with lines `name class`",
        )
    if not 0 < nu <= 100:
        raise typer.BadParameter(f"--nu {nu:g} is not above 0 and at most 100 percent.")
    targets = o.result_targets(context)
    options = DiagnoseOptions(
        method=method if o.is_given(context, "method") else None,
        second_method=second_method,
        attention=attention,
        nu=nu,
        same_region=same_region,
        evidence=evidence,
        out=targets.files,
        format=targets.file_format,
        figure=figure,
        report=report,
        overwrite=overwrite,
        align=align,
        seed=seed,
        pictures=o.picture_options(context.params),
        backbone=b.backbone_options(context.params),
        engine=o.engine_options(context.params),
    )
    context.with_resource(console.working())
    context.with_resource(narrow_pictures.reported_to(console.warn))
    result = diagnose_folder(images, labels, options, reporter=console, stop=lambda: interrupt.stop)
    if result.results is None:
        console.error("interrupted: no result", "run the same command again")
        raise typer.Exit(130)
    if targets.shown:
        from lcam_cli.reports.diagnosis import TEXT_FORMATS, to_rich
        from lcam_cli.reports.output import show

        show(TEXT_FORMATS, to_rich, result.results, targets.shown_format, console)
    if report is None:
        console.info("next: the same line with --report DIR, for a page with every error")
    raise typer.Exit(console.exit_code(result.skipped, result.skipped_what))
