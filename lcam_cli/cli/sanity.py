"""``lcam sanity``: are these maps of this network at all?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lcam_cli.cli import backbone_options as b
from lcam_cli.cli import options as o
from lcam_cli.cli.console import Console, Interrupt
from lcam_cli.errors import LcamError
from lcam_cli.images.depth import narrow_pictures
from lcam_cli.runs.sanity import sanity_check
from lcam_cli.runs.sanity_options import MAX_IMAGES, MAX_STAGES, SanityOptions


def sanity(
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
            help="What to check: names or groups of lcam explain --list-methods, lcam-img, "
            "lcam-fm; all; one-pass, what one forward pass serves.",
        ),
    ] = None,
    attention: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE|DIR",
            show_default="the newest run",
            help="A trained attention, which keeps its weights. Repeatable.",
        ),
    ] = None,
    stages: Annotated[
        int,
        typer.Option(
            min=1,
            max=MAX_STAGES,
            metavar="N",
            help="Draw the weights anew in N steps, from the last layers down.",
        ),
    ] = MAX_STAGES,
    max_similarity: Annotated[
        float | None,
        typer.Option(
            min=-1,
            max=1,
            metavar="X",
            help="Exit 1 where a method stays above X when all weights are drawn anew.",
        ),
    ] = None,
    max_images: Annotated[
        int, typer.Option(min=1, metavar="N", help="Take N of the pictures, by the seed.")
    ] = MAX_IMAGES,
    format_: Annotated[
        Literal["table", "json", "csv", "markdown", "latex"],
        typer.Option("--format", help="Of the result."),
    ] = "table",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", show_default="stdout", help="Where the result goes."),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="Draw some maps: stages down, a method's pictures across, methods side by side.",
        ),
    ] = None,
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
    floor: Annotated[
        bool,
        typer.Option("--floor/--no-floor", help="Check random maps too, for comparison."),
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what --out and --figure name.")
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
    """Check that maps change when the network's weights are drawn anew, stage by stage.

    A row a method: Spearman's rank correlation of its maps with those of the network as trained.
    A method that stays similar would draw nearly the same for a network that has learned nothing.
    """
    interrupt = Interrupt()
    console = Console(quiet, interrupt=interrupt)
    if not images:
        raise LcamError("no pictures to check on", "name files or folders: lcam sanity ./photos")
    options = SanityOptions(
        methods=o.parse_methods(methods),
        attentions=tuple(attention or ()),
        stages=stages,
        max_similarity=max_similarity,
        out=out,
        format=format_,
        figure=figure,
        rise_masks=rise_masks,
        rise_cells=rise_cells,
        rise_p=rise_p,
        floor=floor,
        overwrite=overwrite,
        align=align,
        seed=seed,
        pictures=o.picture_options(context.params),
        backbone=b.backbone_options(context.params),
        engine=o.engine_options(context.params),
    )
    context.with_resource(narrow_pictures.reported_to(console.warn))
    result = sanity_check(images, options, reporter=console, stop=lambda: interrupt.stop)
    if result.results is None:
        console.error("interrupted: no result", "run the same command again")
        raise typer.Exit(130)
    if out is None:
        from lcam_cli.reports.output import show
        from lcam_cli.reports.sanity import TEXT_FORMATS, to_rich

        show(TEXT_FORMATS, to_rich, result.results, format_, console)
    for message in result.missed_gates:
        console.error(message)
    if result.missed_gates:
        raise typer.Exit(1)
    code = console.exit_code(result.skipped, result.skipped_what)
    raise typer.Exit(3 if result.failed else code)
