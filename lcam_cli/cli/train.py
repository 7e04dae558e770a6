"""``lcam train``: learn the attention of L-CAM on a folder of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lcam_cli.cli import backbone_options as b
from lcam_cli.cli import options as o
from lcam_cli.cli.console import Console, Interrupt
from lcam_cli.errors import LcamError
from lcam_cli.images.depth import narrow_pictures
from lcam_cli.runs.train import train_attention
from lcam_cli.runs.train_options import TrainOptions
from lcam_cli.scale.rank_info import RankInfo

_RECIPE = "The recipe's own"


def train(
    context: typer.Context,
    data: Annotated[
        list[str] | None,
        typer.Argument(metavar="DATA", help="Folders of pictures, files, or - for stdin."),
    ] = None,
    backbone: b.BackboneToTrain = None,
    mode: Annotated[
        Literal["img", "fm", "bla", "bla-t", "l2x-f", "amg", "tame"],
        typer.Option(
            help="What is learned: L-CAM, whose map masks the image or the feature maps; bounded "
            "logit attention; L2X-F; AMG; TAME."
        ),
    ] = "img",
    train_head: Annotated[
        bool,
        typer.Option(
            "--train-head",
            help="With bla or bla-t: train the classifier's linear head too, which makes another "
            "classifier of it.",
        ),
    ] = False,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|folders",
            show_default="the classifier's own predictions",
            help="With --train-head, true classes: lines of NAME CLASS, or the folders' names.",
        ),
    ] = None,
    weights: b.Weights = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            show_default="the last convolutional features",
            help="The layer whose feature maps are weighed. Repeatable for tame, in the network's "
            "order (default there: the ends of the last three stages).",
        ),
    ] = None,
    grid: b.Grid = None,
    activation: b.Activation = None,
    output: b.Output = None,
    classes: b.Classes = None,
    recipe: Annotated[
        Literal["auto", "paper", "reference"],
        typer.Option(help="auto for hundreds of pictures; the paper's; the authors' code's."),
    ] = "auto",
    keep_aside: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.5,
            metavar="SHARE",
            show_default=_RECIPE,
            help="The share of DATA that is never trained on: on these pictures, what was learned "
            "is compared with where it started, and the better is kept (auto: 0.2; 0 for none).",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, metavar="N", show_default=_RECIPE, help="Passes over DATA.")
    ] = None,
    batch_size: o.BatchSize = None,
    lr: Annotated[
        float | None,
        typer.Option(min=0, metavar="X", show_default=_RECIPE, help="Base learning rate."),
    ] = None,
    lambda_tv: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="λ1",
            show_default=_RECIPE,
            help="Weight of the map's total variation, its roughness (Eq. 8 of the paper).",
        ),
    ] = None,
    lambda_av: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="λ2",
            show_default=_RECIPE,
            help="Weight of the map's average value, its size (Eq. 7 of the paper).",
        ),
    ] = None,
    lambda_ce: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="λ3",
            show_default=_RECIPE,
            help="Weight of the masked picture's cross-entropy (Eq. 6 of the paper).",
        ),
    ] = None,
    lambda4: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="λ4",
            show_default=_RECIPE,
            help="Exponent of the map's values in their average (Eq. 7 of the paper).",
        ),
    ] = None,
    init: Annotated[
        Literal["auto", "random", "classifier"],
        typer.Option(
            help="What the attention's weights start from: the recipe's choice, random numbers, or "
            "the classifier's weights."
        ),
    ] = "auto",
    loss: Annotated[
        Literal["full", "ce"],
        typer.Option(
            help="All terms (Eq. 6 of the paper), or cross-entropy alone (its ablation, marked *)."
        ),
    ] = "full",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", show_default="runs/<backbone>-<mode>", help="The run's folder."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start anew where DIR holds a run already.")
    ] = False,
    max_images: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Take N pictures of DATA, by the seed.")
    ] = None,
    fit: o.FitToTrain = None,
    strict: o.Strict = False,
    channels: b.Channels = None,
    image_size: b.ImageSize = None,
    resize: b.Resize = None,
    mean: b.Mean = None,
    std: b.Std = None,
    window: b.Window = None,
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    workers: o.Workers = None,
    seed: o.Seed = 0,
    max_pixels: o.MaxPixels = None,
    null: o.Null = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    config: o.Config = None,
) -> None:
    """Train the attention on pictures; no labels needed.

    Writes attention.safetensors, log.csv, losses.png and selection.json (how what was learned
    compares with where it started) to the run's folder, and prints where it lies.
    """
    rank_info = RankInfo.of_environment()
    interrupt = Interrupt()
    console = Console(quiet, follows=rank_info.rank > 0, interrupt=interrupt)
    if not data:
        raise LcamError(
            "no pictures to train on", 'name a folder, or set data = "…" under [train] in lcam.toml'
        )
    options = TrainOptions(
        mode=mode,
        train_head=train_head,
        labels=labels,
        layers=tuple(layer or ()),
        recipe=recipe,
        keep_aside=keep_aside,
        epochs=epochs,
        lr=lr,
        lambda_tv=lambda_tv,
        lambda_av=lambda_av,
        lambda_ce=lambda_ce,
        lambda4=lambda4,
        init=init,
        loss=loss,
        out=out,
        resume=resume,
        overwrite=overwrite,
        seed=seed,
        backbone=b.backbone_options(context.params, layer=None),
        pictures=o.picture_options(context.params),
        engine=o.engine_options(context.params),
    )
    context.with_resource(narrow_pictures.reported_to(console.warn))
    result = train_attention(data, options, reporter=console, stop=lambda: interrupt.stop)
    if result.interrupted:
        from lcam_cli.scale.ranks import RESUME

        console.error(f"interrupted; the run is saved in {result.out}", RESUME)
        raise typer.Exit(130)
    if not result.is_first:
        return
    console.result(str(result.out))
    raise typer.Exit(console.exit_code(result.skipped, result.skipped_what))
