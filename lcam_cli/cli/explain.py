"""``lcam explain``: a saliency map for every picture, in bulk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lcam_cli.cli import options as o
from lcam_cli.cli.console import Console, interruptible
from lcam_cli.errors import LcamError
from lcam_cli.runs.readers import start_readers
from lcam_cli.scale.rank_info import RankInfo
from lcam_cli.scale.shares import parse_shard, shards_of


def explain(
    context: typer.Context,
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGES", help="Pictures, folders of them, or - for stdin."),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(metavar="FILE.h5|DIR", help="An HDF5 file, or a folder of PNGs and overlays."),
    ] = Path("maps.h5"),
    method: Annotated[str, typer.Option(metavar="NAME", help="How to explain.")] = "lcam",
    attention: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|DIR", show_default="the newest run", help="A trained attention."
        ),
    ] = None,
    class_: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            metavar="NAME|INDEX",
            show_default="the predicted class",
            help="The class to explain. Repeatable.",
        ),
    ] = None,
    top_k: Annotated[
        int, typer.Option(min=1, metavar="K", help="Explain the K best-scored classes.")
    ] = 1,
    max_images: o.MaxImages = None,
    overlays: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Draw the maps over the pictures, in DIR.")
    ] = None,
    overlay_format: Annotated[
        Literal["png", "jpg", "webp"], typer.Option(help="Overlays' file format.")
    ] = "png",
    colormap: Annotated[
        str, typer.Option(metavar="NAME", help="Overlays' colours, any name matplotlib knows.")
    ] = "inferno",
    alpha: Annotated[
        float,
        typer.Option(min=0, max=1, metavar="X", help="Overlays' strength where the map is 1."),
    ] = 0.8,
    caption: Annotated[
        bool, typer.Option("--caption/--no-caption", help="Overlays show class name and score.")
    ] = True,
    fit: o.Fit = None,
    map_dtype: Annotated[
        Literal["float16", "uint8", "float32"], typer.Option(help="How maps are stored in HDF5.")
    ] = "float16",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    list_methods: Annotated[
        bool, typer.Option("--list-methods", help="List the methods and leave.")
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Explain part I (from 0) of N alone, into FILE.I-of-N.h5; lcam merge joins them.",
        ),
    ] = None,
    align: o.Align = None,
    strict: o.Strict = False,
    backbone: o.Backbone = None,
    weights: o.Weights = None,
    layer: o.Layer = None,
    grid: o.Grid = None,
    activation: o.Activation = None,
    output: o.Output = None,
    classes: o.Classes = None,
    image_size: o.ImageSize = None,
    resize: o.Resize = None,
    mean: o.Mean = None,
    std: o.Std = None,
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
    """Explain pictures: where did the classifier look?

    With a trained attention (lcam train) the backbone, its weights, layer and classes are known;
    with other methods name them.
    """
    rank_info = RankInfo.of_environment()
    console = Console(quiet, follows=rank_info.rank > 0)
    if list_methods:
        from lcam_cli.methods.registry import known_methods
        from lcam_cli.methods.trained import LCAM, SUMMARIES
        from lcam_cli.runs.log import log_to

        context.with_resource(log_to(console))
        known = {name: entry.summary for name, entry in known_methods().items()}
        everything = {LCAM: SUMMARIES[LCAM]} | known | SUMMARIES
        width = max(map(len, everything))
        for name, summary in everything.items():
            console.result(f"{name:<{width}}  {summary}")
        return
    if not images:
        raise LcamError("no pictures to explain", "name files or folders: lcam explain ./photos")
    if resume and overwrite:
        raise LcamError("--resume and --overwrite exclude each other", "give one of them")
    if class_ and (strength := o.strength(context, "top_k")):
        if strength == o.strength(context, "class_"):
            raise LcamError(
                "--class and --top-k exclude each other",
                "name the classes, or ask for the best-scored ones: leave one out",
            )
        if strength > o.strength(context, "class_"):
            class_ = None
    wanted = parse_shard(shard) if shard else None
    if wanted and rank_info.size > 1:
        raise LcamError("--shard does not go with torchrun", "leave it out: ranks share all alone")
    readers = start_readers(workers)
    from lcam_cli.images.depth import narrow_pictures
    from lcam_cli.images.read import MAX_PIXELS
    from lcam_cli.images.sampling import sample
    from lcam_cli.methods.explain import ClassChoice
    from lcam_cli.reports.text import plural
    from lcam_cli.runs.engine import new_engine, note_unused_gpus, place_maps
    from lcam_cli.runs.explain_ranks import explain_together
    from lcam_cli.runs.explain_run import ExplainRun
    from lcam_cli.runs.flat_maps import reason_of_picture, warn_of_flat_maps
    from lcam_cli.runs.log import log_to
    from lcam_cli.runs.method import backbone_and_method
    from lcam_cli.runs.options import OverlayOptions
    from lcam_cli.runs.outputs import is_hdf5, locks_of
    from lcam_cli.runs.pictures import find_pictures
    from lcam_cli.runs.skipped import SkippedPictures
    from lcam_cli.scale.ranks import RESUME, device_of, together

    context.with_resource(narrow_pictures.reported_to(console.warn))
    device = device_of(rank_info, device)
    with together(rank_info, device) as ranks:
        chosen = o.backbone_options(context.params)
        network, how = backbone_and_method(
            method, attention, chosen, seed, console, any_run=not o.is_given(context, "method")
        )
        choice = ClassChoice(tuple(network.class_index(name) for name in class_ or ()), top_k)
        found = ranks.share(
            lambda: find_pictures(images, o.picture_options(context.params), console)
        )
        found.paths = sample(found.paths, max_images, seed)
        context.with_resource(log_to(console))
        engine = new_engine(
            network, console, device=device, precision=precision, batch_size=batch_size
        )
        note_unused_gpus(engine, rank_info, "explain", console)
        place_maps(engine, [how], align, console)
        skipped = SkippedPictures(console, strict)
        run = ExplainRun(
            engine,
            how,
            found,
            choice,
            skipped,
            overlay=OverlayOptions(overlays, overlay_format, colormap, alpha, caption),
            map_dtype=map_dtype,
            max_pixels=max_pixels or MAX_PIXELS,
            workers=readers,
            resume=resume,
            overwrite=overwrite,
        )
        # One process may finish what ranks began.
        by_ranks = rank_info.size > 1 or (wanted is None and is_hdf5(out) and bool(shards_of(out)))
        part = run.shard(out, *wanted) if wanted else run.whole(out)
        if ranks.is_first:
            for lock in locks_of(part.out, None if wanted else overlays):
                context.with_resource(lock)
        console.info(f"explaining {plural(len(part.pictures), 'image')} with {how.name}")
        with (
            interruptible() as interrupt,
            console.progress(len(part.pictures), "explain", "images") as progress,
        ):
            if by_ranks:
                ranks.show(progress.advance)
                ended = explain_together(run, out, ranks, lambda: interrupt.stop)
            else:
                ended = run.explain(part, progress.advance, lambda: interrupt.stop)
        if ended is None:
            console.error(
                f"interrupted; what is done is saved in {part.out}",
                RESUME,
            )
            raise typer.Exit(130)
        if not ranks.is_first:
            return
        if ended.was_complete:
            console.info(f"{part.out} is complete already: nothing to do")
        else:
            console.result(f"{ended.rows} maps in {part.out}")
        if ended.flat is not None:
            path = str(Path(found.root) / ended.flat.path)
            why = reason_of_picture(engine, how.name, path, ended.flat.class_index)
            warn_of_flat_maps(console, {how.name: (ended.flat.rows, ended.rows)}, why)
        raise typer.Exit(console.exit_code(skipped.count, skipped.what))
