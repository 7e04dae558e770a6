"""``lcam sanity``: are these maps of this network at all?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lcam_cli.cli import backbone_options as b
from lcam_cli.cli import completion
from lcam_cli.cli import options as o
from lcam_cli.cli.console import Console, Interrupt
from lcam_cli.errors import LcamError
from lcam_cli.images.depth import narrow_pictures
from lcam_cli.runs.sanity import sanity_check
from lcam_cli.runs.sanity_options import MAX_IMAGES, MAX_STAGES, SanityOptions


def sanity(
    context: typer.Context,
    images: o.Images = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|GROUP[,...]",
            autocompletion=completion.methods,
            show_default="one-pass",
            help="What to check: names or groups of lcam explain --list-methods, lcam-img, "
            "lcam-fm, all, or one-pass (methods that share one forward pass).",
        ),
    ] = None,
    attention: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE|DIR",
            show_default="the newest run",
            help="A trained attention; it keeps its weights. Repeatable.",
        ),
    ] = None,
    stages: Annotated[
        int,
        typer.Option(
            min=1,
            max=MAX_STAGES,
            metavar="N",
            help="Randomise the weights in N steps, from the last layers to the first.",
        ),
    ] = MAX_STAGES,
    max_similarity: Annotated[
        float | None,
        typer.Option(
            min=-1,
            max=1,
            metavar="X",
            help="Exit with 1 if a method's similarity is above X once all weights are random.",
        ),
    ] = None,
    max_images: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Use only N images, drawn with --seed."),
    ] = MAX_IMAGES,
    format_: o.ResultFormat = None,
    out: o.Out = None,
    figure: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png|pdf|svg",
            help="Draw some maps: a row per stage, a block of columns per method.",
        ),
    ] = None,
    rise_masks: o.RiseMasks = None,
    rise_cells: o.RiseCells = 7,
    rise_p: o.RiseP = 0.5,
    floor: Annotated[
        bool,
        typer.Option("--floor/--no-floor", help="Include random maps for comparison."),
    ] = True,
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
    """Check that maps change when the weights are randomised.

    One row per method: the rank correlation (Spearman) of its maps with those of the trained
    network, as the weights are randomised stage by stage. A method whose maps stay similar would
    draw nearly the same for a network that has learned nothing.
    """
    interrupt = Interrupt()
    console = Console(quiet, interrupt=interrupt)
    if not images:
        raise LcamError("no images to check on", "pass files or folders: lcam sanity ./photos")
    targets = o.result_targets(context)
    options = SanityOptions(
        methods=o.parse_methods(methods),
        attentions=tuple(attention or ()),
        stages=stages,
        max_similarity=max_similarity,
        out=targets.files,
        format=targets.file_format,
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
    context.with_resource(console.working())
    context.with_resource(narrow_pictures.reported_to(console.warn))
    result = sanity_check(images, options, reporter=console, stop=lambda: interrupt.stop)
    if result.results is None:
        console.error("interrupted: no result", "run the same command again")
        raise typer.Exit(130)
    if targets.shown:
        from lcam_cli.reports.output import show
        from lcam_cli.reports.sanity import TEXT_FORMATS, to_rich

        show(TEXT_FORMATS, to_rich, result.results, targets.shown_format, console)
    if figure is None and not result.missed_gates:
        console.info("next: the same line with --figure FILE.png, which draws the maps")
    for message in result.missed_gates:
        console.error(message)
    if result.missed_gates:
        raise typer.Exit(1)
    code = console.exit_code(result.skipped, result.skipped_what)
    raise typer.Exit(3 if result.failed else code)
