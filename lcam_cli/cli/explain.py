"""``lcam explain``: a saliency map for every image, in bulk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lcam_cli.cli import backbone_options as b
from lcam_cli.cli import completion
from lcam_cli.cli import options as o
from lcam_cli.cli.console import Console, Interrupt
from lcam_cli.cli.methods import show_methods
from lcam_cli.errors import LcamError, plural
from lcam_cli.images.depth import narrow_pictures
from lcam_cli.runs.explain import explain_folder
from lcam_cli.runs.explain_options import ExplainOptions
from lcam_cli.runs.methods_options import MethodsOptions
from lcam_cli.runs.options import OverlayOptions
from lcam_cli.scale.rank_info import RankInfo
from lcam_cli.scale.shares import parse_shard


def explain(
    context: typer.Context,
    images: o.Images = None,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE.h5|DIR",
            help="Where the maps go: an HDF5 file, or a folder with a file per map.",
        ),
    ] = Path("maps.h5"),
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            autocompletion=completion.method,
            help="The method that makes the maps; --list-methods shows all.",
        ),
    ] = "lcam",
    attention: o.AttentionRun = None,
    class_: o.ClassNames = None,
    top_k: Annotated[
        int, typer.Option(min=1, metavar="K", help="Explain the K classes with the highest scores.")
    ] = 1,
    max_images: o.MaxImages = None,
    overlays: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also draw the maps over the images, in DIR.")
    ] = None,
    overlay_format: Annotated[
        Literal["png", "jpg", "webp"], typer.Option(help="File format of the overlays.")
    ] = "png",
    colormap: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            autocompletion=completion.colormap,
            help="Colours of the overlays: a matplotlib colour map.",
        ),
    ] = "inferno",
    alpha: Annotated[
        float,
        typer.Option(min=0, max=1, metavar="X", help="Opacity of the overlays where the map is 1."),
    ] = 0.8,
    caption: Annotated[
        bool,
        typer.Option(
            "--caption/--no-caption", help="Write class and score below the image in overlays."
        ),
    ] = True,
    colorbar: Annotated[
        bool,
        typer.Option(
            "--colorbar/--no-colorbar",
            help="Add a colour bar below the overlays.",
        ),
    ] = False,
    contour: Annotated[
        float | None,
        typer.Option(
            metavar="NU",
            callback=o.percent,
            show_default="none",
            help="Outline the highest NU% of the map in overlays.",
        ),
    ] = None,
    smooth: Annotated[
        bool,
        typer.Option(
            "--smooth/--no-smooth",
            help="Smooth the maps in overlays: cubic instead of linear interpolation.",
        ),
    ] = False,
    fit: o.Fit = None,
    map_dtype: Annotated[
        Literal["float16", "uint8", "float32"],
        typer.Option(help="Number format of the maps in HDF5."),
    ] = "float16",
    map_size: Annotated[
        Literal["input", "original"],
        typer.Option(
            help="Size of the maps in a folder: the network's input size, or each image's own."
        ),
    ] = "input",
    map_format: Annotated[
        Literal["png", "png16", "tiff", "npy"],
        typer.Option(
            help="File format of the maps in a folder: 8-bit PNG, 16-bit PNG, or float32 in TIFF "
            "or npy."
        ),
    ] = "png",
    regions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json|csv",
            help="Write boxes around the highest 15% of each map (or --contour NU%): COCO JSON, "
            "or CSV.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    overwrite: o.Overwrite = False,
    list_methods: Annotated[
        bool,
        typer.Option("--list-methods", help="List the methods, as lcam methods does, then exit."),
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Explain only part I (from 0) of N, into FILE.I-of-N.h5; lcam merge joins the "
            "parts.",
        ),
    ] = None,
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
    """Explain images: where did the classifier look?

    A trained attention (lcam train) knows its backbone, weights, layer and classes. With other
    methods, name them.
    """
    rank_info = RankInfo.of_environment()
    interrupt = Interrupt()
    console = Console(quiet, follows=rank_info.rank > 0, interrupt=interrupt)
    if list_methods:
        of_network = MethodsOptions(
            attention=attention,
            contrast=contrast,
            layers=b.several_layers(layer),
            fuse=fuse,
            seed=seed,
            backbone=b.backbone_options(context.params),
            engine=o.engine_options(context.params),
        )
        show_methods(of_network, "table", console)
        return
    if not images:
        raise LcamError("no images to explain", "pass files or folders: lcam explain ./photos")
    options = ExplainOptions(
        method=method if o.is_given(context, "method") else None,
        attention=attention,
        class_names=_class_names(context, class_),
        top_k=top_k,
        align=align,
        map_dtype=map_dtype,
        map_size=map_size,
        map_format=map_format,
        regions=regions,
        shard=parse_shard(shard) if shard else None,
        resume=resume,
        overwrite=overwrite,
        seed=seed,
        overlays=OverlayOptions(
            overlays, overlay_format, colormap, alpha, caption, colorbar, contour, smooth
        ),
        contrast=contrast,
        layers=b.several_layers(layer),
        fuse=fuse,
        backbone=b.backbone_options(context.params),
        pictures=o.picture_options(context.params),
        engine=o.engine_options(context.params),
    )
    context.with_resource(console.working())
    context.with_resource(narrow_pictures.reported_to(console.warn))
    result = explain_folder(images, out, options, reporter=console, stop=lambda: interrupt.stop)
    if result.interrupted:
        from lcam_cli.scale.ranks import RESUME

        console.error(f"interrupted; finished maps are saved in {result.out}", RESUME)
        raise typer.Exit(130)
    if not result.is_first:
        return
    if not result.was_complete:
        console.result(f"{plural(result.rows, 'map')} in {result.out}")
        if overlays is not None:
            console.info(f"the overlays are in {overlays}")
        if regions is not None:
            console.info(f"the boxes are in {regions}")
    # A part of the maps waits for the others, and measures need maps of the network's input.
    if shard is None and map_size == "input" and map_format in ("png", "png16"):
        console.next("lcam", "evaluate", result.out, *b.own_backbone(context.params))
    raise typer.Exit(console.exit_code(result.skipped, result.skipped_what))


def _class_names(context: typer.Context, names: list[str] | None) -> tuple[str, ...]:
    """Return the classes that are named, unless ``--top-k`` was given nearer by.

    Raises:
        LcamError: Both were given in the same place.
    """
    strength = o.strength(context, "top_k")
    if not names or not strength:
        return tuple(names or ())
    if strength == o.strength(context, "class_"):
        raise LcamError(
            "--class and --top-k exclude each other",
            "pass only one of them",
        )
    return () if strength > o.strength(context, "class_") else tuple(names)
