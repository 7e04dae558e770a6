"""``lcam train``: learn the attention of L-CAM on a folder of images."""

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

_RECIPE = "that of the recipe"


def train(
    context: typer.Context,
    data: Annotated[
        list[str] | None,
        typer.Argument(metavar="DATA", help="Image files, folders, or - for a list on stdin."),
    ] = None,
    backbone: b.BackboneToTrain = None,
    mode: Annotated[
        Literal["img", "fm", "bla", "bla-t", "l2x-f", "amg", "tame"],
        typer.Option(
            help="What to learn: img or fm (L-CAM; the map masks the image or the feature maps), "
            "bla, bla-t (bounded logit attention), l2x-f, amg or tame."
        ),
    ] = "img",
    train_head: Annotated[
        bool,
        typer.Option(
            "--train-head",
            help="With bla or bla-t: train the classifier's linear head too. This changes the "
            "classifier.",
        ),
    ] = False,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|folders",
            show_default="the classifier's own predictions",
            help="With --train-head, the true classes: a file of NAME CLASS lines, or the folder "
            "names.",
        ),
    ] = None,
    weights: b.Weights = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            show_default="the last one with feature maps",
            help="The target layer: its feature maps are weighted. Repeatable for tame, in the "
            "network's order (default there: the ends of the last three stages).",
        ),
    ] = None,
    grid: b.Grid = None,
    activation: b.Activation = None,
    output: b.Output = None,
    classes: b.Classes = None,
    recipe: Annotated[
        Literal["auto", "paper", "reference"],
        typer.Option(
            help="Settings for training: auto (for hundreds of images), the paper's, or "
            "those of the authors' code."
        ),
    ] = "auto",
    keep_aside: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.5,
            metavar="SHARE",
            show_default=_RECIPE,
            help="Share of the images to keep out of training. On them the learned maps are "
            "compared with the maps at the start, and the better ones are kept. 0 for none.",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", show_default=_RECIPE, help="Passes over the images."),
    ] = None,
    batch_size: o.BatchSize = None,
    lr: Annotated[
        float | None,
        typer.Option(min=0, metavar="X", show_default=_RECIPE, help="Learning rate."),
    ] = None,
    lambda_tv: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="λ1",
            show_default=_RECIPE,
            help="Weight of the total variation loss: how rough the map is (Eq. 8 of the paper).",
        ),
    ] = None,
    lambda_av: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="λ2",
            show_default=_RECIPE,
            help="Weight of the area loss: the map's mean value (Eq. 7 of the paper).",
        ),
    ] = None,
    lambda_ce: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="λ3",
            show_default=_RECIPE,
            help="Weight of the cross-entropy loss of the masked image (Eq. 6 of the paper).",
        ),
    ] = None,
    lambda4: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="λ4",
            show_default=_RECIPE,
            help="Exponent of the map's values in the area loss (Eq. 7 of the paper).",
        ),
    ] = None,
    init: Annotated[
        Literal["auto", "random", "classifier"],
        typer.Option(
            help="Initial weights of the attention: the recipe's choice, random numbers, or the "
            "classifier's weights."
        ),
    ] = "auto",
    loss: Annotated[
        Literal["full", "ce"],
        typer.Option(
            help="All loss terms (Eq. 6 of the paper), or only cross-entropy (the paper's "
            "ablation, marked *)."
        ),
    ] = "full",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", show_default="runs/<backbone>-<mode>", help="Folder of the run."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing run.")
    ] = False,
    max_images: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Use only N images, drawn with --seed."),
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
    """Train an attention for a classifier; no labels needed.

    Writes attention.safetensors (the attention), log.csv and losses.png (the losses) and
    selection.json (the learned maps beside those at the start) to a folder under runs/, and prints
    its name. lcam explain finds the newest run there.
    """
    rank_info = RankInfo.of_environment()
    interrupt = Interrupt()
    console = Console(quiet, follows=rank_info.rank > 0, interrupt=interrupt)
    if not data:
        raise LcamError(
            "no images to train on", 'pass a folder, or set data = "…" under [train] in lcam.toml'
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
    context.with_resource(console.working())
    context.with_resource(narrow_pictures.reported_to(console.warn))
    result = train_attention(data, options, reporter=console, stop=lambda: interrupt.stop)
    if result.interrupted:
        from lcam_cli.scale.ranks import RESUME

        console.error(f"interrupted; the run is saved in {result.out}", RESUME)
        raise typer.Exit(130)
    if not result.is_first:
        return
    console.result(str(result.out))
    own = b.own_backbone(context.params)
    console.next("lcam", "explain", "./photos", "--attention", result.out, *own)
    raise typer.Exit(console.exit_code(result.skipped, result.skipped_what))
