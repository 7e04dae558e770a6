"""``lcam train``: learn the attention of L-CAM on a folder of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from lcam_cli.cli import options as o
from lcam_cli.cli.console import Console, interruptible
from lcam_cli.errors import LcamError
from lcam_cli.runs.readers import start_readers
from lcam_cli.scale.rank_info import RankInfo

if TYPE_CHECKING:
    from lcam_cli.training.recipes import Mode

_RECIPE = "The recipe's own"


def train(
    context: typer.Context,
    data: Annotated[
        list[str] | None,
        typer.Argument(metavar="DATA", help="Folders of pictures, files, or - for stdin."),
    ] = None,
    backbone: o.BackboneToTrain = None,
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
    weights: o.Weights = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            show_default="the last convolutional features",
            help="The layer whose feature maps are weighed. Repeatable for tame, in the network's "
            "order (default there: the ends of the last three stages).",
        ),
    ] = None,
    grid: o.Grid = None,
    activation: o.Activation = None,
    output: o.Output = None,
    classes: o.Classes = None,
    recipe: Annotated[
        Literal["auto", "paper", "reference"],
        typer.Option(help="auto for hundreds of pictures; the paper's; the authors' code's."),
    ] = "auto",
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
    strict: o.Strict = False,
    image_size: o.ImageSize = None,
    resize: o.Resize = None,
    mean: o.Mean = None,
    std: o.Std = None,
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

    Writes attention.safetensors, log.csv and losses.png to the run's folder, and prints where it
    lies.
    """
    rank_info = RankInfo.of_environment()
    console = Console(quiet, follows=rank_info.rank > 0)
    if not data:
        raise LcamError(
            "no pictures to train on", 'name a folder, or set data = "…" under [train] in lcam.toml'
        )
    run_mode = _run_mode(mode, train_head, labels)
    readers = start_readers(workers)
    import dataclasses

    from lcam_cli.images.depth import narrow_pictures
    from lcam_cli.images.read import MAX_PIXELS
    from lcam_cli.images.sampling import sample
    from lcam_cli.locks import lock_folder
    from lcam_cli.measures.labels import labels_of_files
    from lcam_cli.methods.learned import LCAM_MODES
    from lcam_cli.reports.text import plural
    from lcam_cli.runs.backbone import new_backbone
    from lcam_cli.runs.engine import new_engine, note_unused_gpus
    from lcam_cli.runs.log import log_to
    from lcam_cli.runs.pictures import find_pictures
    from lcam_cli.runs.skipped import SkippedPictures
    from lcam_cli.scale.gradient_sync import GradientSync
    from lcam_cli.scale.ranks import RESUME, device_of, together
    from lcam_cli.training.files import claim_run, run_folder
    from lcam_cli.training.loop import TrainingSettings, share_of_batches
    from lcam_cli.training.loop import train as run_training
    from lcam_cli.training.recipes import recipe_for

    context.with_resource(narrow_pictures.reported_to(console.warn))
    layers = layer or []
    if len(layers) > 1 and mode != "tame":
        raise LcamError(f"--mode {mode} takes one --layer, not {len(layers)}", "name one")
    chosen = o.backbone_options(context.params, layer=layers[-1] if layers else None)
    recipe_settings = recipe_for(recipe, backbone or "", run_mode)
    if mode not in LCAM_MODES and init != "auto":
        raise LcamError(f"--init does not go with --mode {mode}", "leave it out")
    typed = {
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "lambda_tv": 0.0 if loss == "ce" else lambda_tv,
        "lambda_av": 0.0 if loss == "ce" else lambda_av,
        "lambda_ce": lambda_ce,
        "lambda4": lambda4,
        "init": None if init == "auto" else init,
    }
    recipe_settings = dataclasses.replace(
        recipe_settings,
        **{k: v for k, v in typed.items() if v is not None},  # type: ignore[arg-type]
    )
    settings = TrainingSettings(
        run_mode,
        recipe_settings,
        layers=tuple(layers) if mode == "tame" else (),
        seed=seed,
        workers=readers,
        max_pixels=max_pixels or MAX_PIXELS,
    )
    share_of_batches(settings, rank_info)  # refused before anything is read
    device = device_of(rank_info, device)
    with together(rank_info, device) as ranks:
        found = ranks.share(lambda: find_pictures(data, o.picture_options(context.params), console))
        network = new_backbone(chosen, seed)
        network.need_layer("lcam train")
        paths = sample(found.paths, max_images, seed)
        if labels is not None:
            truth = labels_of_files(labels, paths, found.root, network, console.warn)
            if len(truth) < len(paths):
                console.warn(f"{len(paths) - len(truth)} images have no label: left out")
                paths = [path for path in paths if path in truth]
            settings = dataclasses.replace(settings, labels=tuple(truth[path] for path in paths))
        folder = out or run_folder(network.identity.name, run_mode)
        if ranks.is_first:
            context.with_resource(lock_folder(folder))
        goes_on = ranks.share(lambda: claim_run(folder, resume=resume, overwrite=overwrite))
        if goes_on != resume:
            console.info(f"nothing to resume in {folder}: starting anew")
        context.with_resource(log_to(console))
        engine = new_engine(
            network,
            console,
            device=device,
            precision=precision,
            batch_size=recipe_settings.batch_size,
        )
        note_unused_gpus(engine, rank_info, "train", console)
        skipped = SkippedPictures(console, strict)
        if ranks.is_first:
            for item in found.skipped:
                skipped(item)
        title = f"L-CAM-{mode.capitalize()}" if mode in LCAM_MODES else mode.upper()
        title += " and the head" if train_head else ""
        console.info(
            f"training {title} on {plural(len(paths), 'image')}, "
            f"{plural(recipe_settings.epochs, 'epoch')}, "
            f"recipe {recipe}"
        )
        sync = GradientSync(ranks)
        total = len(paths) * recipe_settings.epochs
        with interruptible() as interrupt, console.progress(total, "train", "images") as progress:
            ranks.show(progress.advance)
            result = run_training(
                engine,
                paths,
                folder,
                settings,
                resume=goes_on,
                advance=ranks.advance,
                skip=skipped,
                stop=lambda: interrupt.stop,
                sync=sync,
            )
            if result is not None:
                ranks.finish(skipped.count)
                skipped.count += ranks.wait_for_others(lambda: False) if ranks.is_first else 0
        if result is None:
            console.error(
                f"interrupted; the run is saved in {folder}",
                RESUME,
            )
            raise typer.Exit(130)
        if not ranks.is_first:
            return
        if sync.steps:
            each = sync.sent / sync.steps
            console.info(f"each of {rank_info.size} ranks sent {each:,.0f} bytes a step")
        console.result(str(folder))
        raise typer.Exit(console.exit_code(skipped.count, skipped.what))


def _run_mode(mode: str, train_head: bool, labels: str | None) -> Mode:
    """The mode as runs know it: with ``--train-head`` it is another one.

    Raises:
        LcamError: Options that do not go together.
    """
    if train_head and mode not in ("bla", "bla-t"):
        raise LcamError(
            f"--train-head does not go with --mode {mode}", "it trains --mode bla or bla-t"
        )
    if mode == "bla-t" and not train_head:
        raise LcamError(
            "--mode bla-t trains the classifier's head",
            "add --train-head; with the head as it is, it is --mode bla",
        )
    if labels is not None and not train_head:
        raise LcamError(
            "--labels goes with --train-head alone",
            "leave it out: what is explained are the classifier's own predictions",
        )
    return cast("Mode", f"{mode}-head" if train_head else mode)
