"""``lcam evaluate``: how good are the maps of a file?"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from lcam_cli.cli import options as o
from lcam_cli.cli.console import Console, interruptible
from lcam_cli.cli.reporting import claim_report
from lcam_cli.errors import LcamError
from lcam_cli.runs.readers import start_readers
from lcam_cli.runs.targets import check_target


def _check_gate(value: float | None) -> float | None:
    """Return the value of a gate.

    Raises:
        typer.BadParameter: It is no number: every score would pass.
    """
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no percentage")
    return value


def evaluate(
    context: typer.Context,
    maps: Annotated[
        Path, typer.Argument(metavar="MAPS", help="The maps file of lcam explain.")
    ] = Path("maps.h5"),
    nu: o.Nus = None,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The pictures' folder, if it moved.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Whose maps, in a file of lcam compare's."),
    ] = None,
    format_: Annotated[
        Literal["table", "json", "csv", "markdown", "latex"],
        typer.Option("--format", help="Of the result."),
    ] = "table",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", show_default="stdout", help="Where the result goes."),
    ] = None,
    report: o.Report = None,
    max_ad: Annotated[
        float | None,
        typer.Option(
            metavar="X", callback=_check_gate, help="Exit 1 where AD is above X at any ν of --nu."
        ),
    ] = None,
    min_ic: Annotated[
        float | None,
        typer.Option(
            metavar="X", callback=_check_gate, help="Exit 1 where IC is below X at any ν of --nu."
        ),
    ] = None,
    mask_space: Annotated[
        Literal["pixel", "normalized"],
        typer.Option(help="Hide with black (the paper's code), or with the mean colour."),
    ] = "pixel",
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|folders",
            help="True classes, for top-1 and top-5: lines of NAME CLASS, or the folders' names.",
        ),
    ] = None,
    floor: Annotated[
        bool, typer.Option("--floor/--no-floor", help="Score random maps too, as the floor.")
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace --out FILE and --report DIR.")
    ] = False,
    strict: o.Strict = False,
    backbone: o.Backbone = None,
    weights: o.Weights = None,
    layer: o.Layer = None,
    grid: o.Grid = None,
    activation: o.Activation = None,
    output: o.Output = None,
    classes: o.Classes = None,
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    batch_size: o.BatchSize = None,
    workers: o.Workers = None,
    seed: o.Seed = 0,
    max_pixels: o.MaxPixels = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    config: o.Config = None,
) -> None:
    """Score maps by Average Drop and Increase in Confidence.

    The maps file knows its pictures, backbone, weights and classes: nothing else is needed.
    """
    console = Console(quiet)
    nus = o.parse_nus(nu)
    check_target(out, "--out", overwrite)
    if report is not None:
        claim_report(context, report, overwrite)
    readers = start_readers(workers)
    from lcam_cli.engine.activation import check_activation
    from lcam_cli.engine.identity import Identity
    from lcam_cli.engine.probabilities import check_kind
    from lcam_cli.images.depth import narrow_pictures
    from lcam_cli.images.preprocess import Preprocess
    from lcam_cli.images.read import MAX_PIXELS
    from lcam_cli.maps.hdf5.reader import MapsFile
    from lcam_cli.measures.evaluate import evaluate as run_evaluate
    from lcam_cli.measures.labels import read_labels
    from lcam_cli.methods.noise import RandomMap
    from lcam_cli.reports import output as written
    from lcam_cli.reports.gallery import Shown
    from lcam_cli.reports.gates import check_gates
    from lcam_cli.reports.report import Report
    from lcam_cli.reports.results import FLOOR, Results, Row
    from lcam_cli.reports.table import undefined_words
    from lcam_cli.runs.backbone import backbone_of_file
    from lcam_cli.runs.engine import new_engine
    from lcam_cli.runs.flat_maps import warn_of_flat_maps
    from lcam_cli.runs.log import log_to
    from lcam_cli.runs.skipped import SkippedPictures

    context.with_resource(narrow_pictures.reported_to(console.warn))
    context.with_resource(log_to(console))
    chosen = o.backbone_options(context.params)
    with MapsFile(maps, method) as file:
        info = file.info
        if not file.complete:
            console.warn(f"{maps} is of an unfinished run: scoring the {len(file)} maps it has")
        network = backbone_of_file(
            str(maps),
            Identity(
                info.backbone,
                info.weights,
                info.layer,
                info.weights_file,
                info.grid,
                check_activation(info.activation),
                info.output,
                check_kind(info.probabilities),
            ),
            chosen,
            class_names=None,
            preprocess=Preprocess.from_json(info.preprocess),
        )
        if info.classes and classes is None:  # else the user's own names count
            if len(info.classes) != network.num_classes:
                raise LcamError(
                    f"{maps} names {len(info.classes)} classes; {info.backbone} has "
                    f"{network.num_classes}",
                    "give the backbone and weights the maps were made with, or --classes FILE",
                )
            network.class_names = list(info.classes)
        truth = None
        if labels is not None:
            rows = file.paths()
            root = os.path.abspath(images or maps.parent / info.root)  # noqa: PTH100
            truth = read_labels(labels, rows, network, root=root, tell=console.warn)
            if unlabelled := len(set(rows) - truth.keys()):
                console.warn(
                    f"{unlabelled} of {len(set(rows))} pictures have no label in {labels}: they "
                    "do not count for top-1 and top-5"
                )
        engine = new_engine(
            network,
            console,
            device=device,
            # The measures are defined in fp32: auto does not trade them for speed.
            precision="fp32" if precision == "auto" else precision,
            batch_size=batch_size,
        )
        skipped = SkippedPictures(console, strict)
        page = None
        if report is not None:
            methods = [info.method, *([FLOOR] if floor else [])]
            shown = Shown.of(network, methods, 1 if floor else None, nus, mask_space)
            page = context.with_resource(Report(report, "evaluate", shown))
        with interruptible() as interrupt, console.progress(len(file), "evaluate", "maps") as bar:
            outcome = run_evaluate(
                engine,
                file,
                nus=nus,
                images=images,
                space=mask_space,
                floor=RandomMap(seed) if floor else None,
                labels=truth,
                seed=seed,
                workers=readers,
                max_pixels=max_pixels or MAX_PIXELS,
                advance=bar.advance,
                skip=skipped,
                show=page.add if page else None,
                stop=lambda: interrupt.stop,
            )
        if interrupt.stop:
            console.error("interrupted: no result", "run the same command again")
            raise typer.Exit(130)
    forward_passes = {info.method: info.forward_passes, "random": 0}
    aligned = {info.method: info.aligned, "random": False}
    results = Results(
        backbone=info.backbone,
        weights=info.weights,
        layer=info.layer,
        images=outcome.images,
        skipped=skipped.count,
        precision=engine.hardware.precision,
        device=engine.hardware.name,
        rows=[
            Row(
                s.name,
                s.nu,
                forward_passes[s.name],
                s.mean_saliency,
                s.images_per_second,
                align=aligned[s.name],
                flat_maps=s.flat_maps,
            )
            for s in outcome.scores
        ],
        mask_space=mask_space,
        activation=info.activation,
        speed="scored",
        accuracy=outcome.accuracy,
        undefined={"ad": outcome.scores[0].undefined},
    )
    for words in undefined_words(results):
        console.warn(words)
    flat = {s.name: (s.flat_maps, s.maps) for s in outcome.scores}
    warn_of_flat_maps(console, flat, outcome.scores[0].why_flat)
    labelled = outcome.accuracy
    if labelled and (other_order := labelled.order.warning(network.class_names)):
        console.warn(other_order)
    written.write(results, format_, out, console)
    if page is not None:
        console.info(f"the report is {page.finish(results, mask_space)}")
    missed = check_gates(results, max_ad, min_ic)
    for message in missed:
        console.error(message)
    raise typer.Exit(1 if missed else console.exit_code(skipped.count, skipped.what))
