"""``lcam diagnose``: why are pictures misclassified, and which classes may be biased?"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from lcam_cli.cli import options as o
from lcam_cli.cli.console import Console, interruptible
from lcam_cli.cli.reporting import claim_report
from lcam_cli.errors import LcamError
from lcam_cli.locks import lock_file
from lcam_cli.measures.error_groups import DEFAULT_RULES
from lcam_cli.runs.readers import start_readers
from lcam_cli.runs.targets import check_target


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
    """Diagnose errors: the maps of the true and the predicted class of misclassified pictures.

    Each is put into one group: related classes (both look at the same region), several objects
    (the true class is known by a region of its own), or class bias candidates (it finds too little
    evidence anywhere). Classes follow in the order in which a bias is suspected.
    """
    console = Console(quiet)
    if not images:
        raise LcamError("no pictures to diagnose", "name files or folders: lcam diagnose ./photos")
    if labels is None:
        raise LcamError(
            "no labels: which class is right?",
            "give --labels folders, or --labels FILE with lines `name class`",
        )
    if not 0 < nu <= 100:
        raise typer.BadParameter(f"--nu {nu:g} is not above 0 and at most 100 percent.")
    check_target(figure, "--figure", overwrite, (".png",))
    check_target(out, "--out", overwrite)
    if report is not None:
        claim_report(context, report, overwrite)
    for target in (out, figure):
        if target is not None:
            context.with_resource(lock_file(target))
    readers = start_readers(workers)
    from lcam_cli.images.depth import narrow_pictures
    from lcam_cli.images.read import MAX_PIXELS
    from lcam_cli.images.sampling import sample
    from lcam_cli.maps.marks import mark_figure
    from lcam_cli.maps.paths import stored_path
    from lcam_cli.measures.diagnose import Shown
    from lcam_cli.measures.diagnose import diagnose as run_diagnose
    from lcam_cli.measures.error_groups import Rules
    from lcam_cli.measures.labels import labels_of_files
    from lcam_cli.reports.diagnosis import TEXT_FORMATS, DiagnosisReport, to_rich
    from lcam_cli.reports.diagnosis_figure import Worst, draw_diagnosis
    from lcam_cli.reports.diagnosis_page import DiagnosisPage
    from lcam_cli.reports.output import deliver
    from lcam_cli.runs.engine import new_engine, place_maps
    from lcam_cli.runs.flat_maps import warn_of_flat_maps
    from lcam_cli.runs.log import log_to
    from lcam_cli.runs.method import backbone_and_method
    from lcam_cli.runs.pictures import find_pictures
    from lcam_cli.runs.skipped import SkippedPictures

    context.with_resource(narrow_pictures.reported_to(console.warn))
    context.with_resource(log_to(console))
    chosen = o.backbone_options(context.params)
    network, how = backbone_and_method(
        method, attention, chosen, seed, console, any_run=not o.is_given(context, "method")
    )
    found = find_pictures(images, o.picture_options(context.params), console)
    found.paths = sample(found.paths, max_images, seed)
    truth = labels_of_files(labels, found.paths, found.root, network, console.warn)
    labelled = [path for path in found.paths if path in truth]
    unlabelled = len(found.paths) - len(labelled)
    engine = new_engine(
        network,
        console,
        device=device,
        # What a picture is taken for must not depend on rounding: auto is not traded for speed.
        precision="fp32" if precision == "auto" else precision,
        batch_size=batch_size,
    )
    place_maps(engine, [how], align, console)
    if unlabelled:
        console.warn(f"{unlabelled} pictures have no label in {labels}: they are left out")
    skipped = SkippedPictures(console, strict)
    for item in found.skipped:
        skipped(item)
    rules = Rules(nu, same_region, evidence)
    worst = Worst()
    page = None if report is None else DiagnosisPage(report)

    def show(shown: Shown) -> None:
        worst.add(shown)
        if page is not None:
            page.add(shown)

    with (
        interruptible() as interrupt,
        console.progress(len(labelled), "diagnose", "pictures") as progress,
    ):
        diagnosis = run_diagnose(
            engine,
            how,
            labelled,
            [truth[path] for path in labelled],
            rules=rules,
            workers=readers,
            max_pixels=max_pixels or MAX_PIXELS,
            row_path=lambda path: stored_path(path, found.root),
            show=show,
            advance=progress.advance,
            skip=skipped,
            stop=lambda: interrupt.stop,
        )
    if interrupt.stop:
        console.error("interrupted: no result", "run the same command again")
        raise typer.Exit(130)
    maps = 2 * len(diagnosis.mistakes)
    warn_of_flat_maps(console, {how.name: (diagnosis.flat_maps, maps)}, diagnosis.why_flat)
    if other_order := diagnosis.order.warning(network.class_names):
        console.warn(other_order)
    identity = network.identity
    result = DiagnosisReport(
        backbone=identity.name,
        weights=identity.weights,
        layer=identity.layer,
        method=how.name,
        class_names=network.class_names,
        rules=rules,
        diagnosis=diagnosis,
        skipped=skipped.count,
        unlabelled=unlabelled,
        precision=engine.hardware.precision,
        device=engine.hardware.name,
    )
    if figure is not None and diagnosis.mistakes:
        draw_diagnosis(figure, worst, network.class_names)
        mark_figure(figure, found.root)
        console.info(f"the worst of each group are drawn in {figure}")
    elif figure is not None:
        console.warn(f"nothing to draw in {figure}")
    if page is not None:
        console.info(f"every misclassified picture is in {page.finish(result)}")
    texts = {name: lambda render=render: render(result) for name, render in TEXT_FORMATS.items()}
    deliver(texts, partial(to_rich, result), format_, out, console)
    raise typer.Exit(console.exit_code(skipped.count, skipped.what))
