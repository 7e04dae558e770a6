"""``lcam diagnose``: why are pictures misclassified, and which classes may be biased?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lcam_cli.cli import backbone_options as b
from lcam_cli.cli import options as o
from lcam_cli.cli.console import Console, Interrupt
from lcam_cli.errors import LcamError
from lcam_cli.images.depth import narrow_pictures
from lcam_cli.measures.error_groups import DEFAULT_RULES
from lcam_cli.runs.diagnose import diagnose_folder
from lcam_cli.runs.diagnose_options import DiagnoseOptions


def diagnose(
    context: typer.Context,
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGES", help="Pictures, folders of them, or - for stdin."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|folders",
            help="True classes: lines of NAME CLASS, or the folders' names.",
        ),
    ] = None,
    method: Annotated[str, typer.Option(metavar="NAME", help="How to explain.")] = "lcam",
    attention: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|DIR", show_default="the newest run", help="A trained attention."
        ),
    ] = None,
    nu: Annotated[
        float,
        typer.Option(
            metavar="PERCENT", help="Percent of the pixels in a class's region, the brightest."
        ),
    ] = DEFAULT_RULES.nu,
    same_region: Annotated[
        float,
        typer.Option(
            min=0, max=1, metavar="X", help="Overlap (IoU) from which two regions are the same."
        ),
    ] = DEFAULT_RULES.same_region,
    evidence: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="X",
            help="Share of the predicted class's score that the true one must reach somewhere.",
        ),
    ] = DEFAULT_RULES.evidence,
    max_images: o.MaxImages = None,
    format_: Annotated[
        Literal["table", "json", "csv", "markdown"],
        typer.Option("--format", help="Of the result."),
    ] = "table",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", show_default="stdout", help="Where the result goes."),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw the worst of each group, with both maps."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A page with every misclassified picture."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what --out, --figure and --report name.")
    ] = False,
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
    """Diagnose errors: the maps of the true and the predicted class of misclassified pictures.

    Each is put into one group: related classes (both look at the same region), several objects
    (the true class is known by a region of its own), or class bias candidates (it finds too little
    evidence anywhere). Classes follow in the order in which a bias is suspected.
    """
    interrupt = Interrupt()
    console = Console(quiet, interrupt=interrupt)
    if not images:
        raise LcamError("no pictures to diagnose", "name files or folders: lcam diagnose ./photos")
    if labels is None:
        raise LcamError(
            "no labels: which class is right?",
            "give --labels folders, or --labels FILE with lines `name class`",
        )
    if not 0 < nu <= 100:
        raise typer.BadParameter(f"--nu {nu:g} is not above 0 and at most 100 percent.")
    options = DiagnoseOptions(
        method=method if o.is_given(context, "method") else None,
        attention=attention,
        nu=nu,
        same_region=same_region,
        evidence=evidence,
        out=out,
        format=format_,
        figure=figure,
        report=report,
        overwrite=overwrite,
        align=align,
        seed=seed,
        pictures=o.picture_options(context.params),
        backbone=b.backbone_options(context.params),
        engine=o.engine_options(context.params),
    )
    context.with_resource(narrow_pictures.reported_to(console.warn))
    result = diagnose_folder(images, labels, options, reporter=console, stop=lambda: interrupt.stop)
    if result.results is None:
        console.error("interrupted: no result", "run the same command again")
        raise typer.Exit(130)
    if out is None:
        from lcam_cli.reports.diagnosis import TEXT_FORMATS, to_rich
        from lcam_cli.reports.output import show

        show(TEXT_FORMATS, to_rich, result.results, format_, console)
    raise typer.Exit(console.exit_code(result.skipped, result.skipped_what))
