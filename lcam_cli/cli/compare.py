"""``lcam compare``: several methods on the same pictures, side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lcam_cli.cli import options as o
from lcam_cli.cli.console import Console
from lcam_cli.cli.reporting import claim_report
from lcam_cli.errors import LcamError, did_you_mean
from lcam_cli.locks import lock_file, lock_folder
from lcam_cli.runs.readers import start_readers
from lcam_cli.runs.targets import check_target
from lcam_cli.scale.rank_info import RankInfo

if TYPE_CHECKING:
    from lcam_cli.images.find import Skipped

_CURVES = ("insertion", "deletion")
_METRICS = ("ad", "ic", *_CURVES)
_PICTURES_SHOWN = 8


def _parse_metrics(values: list[str] | None) -> list[str]:
    """Return the names in ``--metrics``, each once.

    Raises:
        typer.BadParameter: One is unknown.
    """
    words = [word.strip() for item in values or ["ad,ic"] for word in item.split(",")]
    for word in words:
        if word not in _METRICS:
            hint = did_you_mean(word, _METRICS) or f"choose from {', '.join(_METRICS)}."
            raise typer.BadParameter(f"{word!r} is no measure: {hint}")
    return list(dict.fromkeys(words))


def _check_metrics(value: list[str] | None) -> list[str] | None:
    _parse_metrics(value)
    return value


def compare(
    context: typer.Context,
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGES", help="Pictures, folders of them, or - for stdin."),
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[,...]|all",
            show_default="all of one forward pass",
            help="What to compare: names of --list-methods of lcam explain, lcam-img, lcam-fm.",
        ),
    ] = None,
    attention: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE|DIR",
            show_default="the newest run",
            help="A trained attention. Repeatable.",
        ),
    ] = None,
    nu: o.Nus = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[,...]",
            callback=_check_metrics,
            show_default="ad,ic",
            help="ad and ic are always there; insertion and deletion add the areas under those "
            "curves.",
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
    max_images: o.MaxImages = None,
    format_: Annotated[
        Literal["table", "json", "csv", "markdown", "latex"],
        typer.Option("--format", help="Of the result."),
    ] = "table",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.h5", help="Keep all maps, a group a method."),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw some maps: pictures across, methods down."),
    ] = None,
    report: o.Report = None,
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
    mask_space: Annotated[
        Literal["pixel", "normalized"],
        typer.Option(help="Hide with black (the paper's code), or with the mean colour."),
    ] = "pixel",
    floor: Annotated[
        bool, typer.Option("--floor/--no-floor", help="Compare random maps too, as the floor.")
    ] = True,
    resume: Annotated[
        bool, typer.Option("--resume", help="Take over what an earlier run finished.")
    ] = False,
    state: Annotated[
        Path, typer.Option(metavar="DIR", help="Where what is finished is kept for --resume.")
    ] = Path("runs/compare"),
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
    """Compare methods on the same pictures: the paper's Table 1 and Fig. 3.

    A row a method: Average Drop and Increase in Confidence at each ν, forward passes, speed. Rows
    marked ≈ do not differ significantly from the best.
    """
    rank_info = RankInfo.of_environment()
    console = Console(quiet, follows=rank_info.rank > 0)
    if not images:
        raise LcamError("no pictures to compare on", "name files or folders: lcam compare ./photos")
    check_target(out, "--out", overwrite, (".h5", ".hdf5", ".hdf"))
    check_target(figure, "--figure", overwrite, (".png",))
    if rank_info.rank == 0:
        for target in (out, figure):
            if target is not None:
                context.with_resource(lock_file(target))
        if report is not None:
            claim_report(context, report, overwrite)
    readers = start_readers(workers)
    from lcam_cli.images.depth import narrow_pictures
    from lcam_cli.images.read import MAX_PIXELS
    from lcam_cli.images.sampling import sample
    from lcam_cli.maps.marks import mark_figure
    from lcam_cli.measures.compare import Candidate, Task, Terms
    from lcam_cli.measures.compare_state import CompareState, shown_pictures
    from lcam_cli.methods.explain import NOT_NUMBERS, ClassChoice, no_numbers
    from lcam_cli.methods.options import MethodOptions
    from lcam_cli.reports import output as written
    from lcam_cli.reports.table import undefined_words
    from lcam_cli.runs.candidates import choose_candidates, parse_methods
    from lcam_cli.runs.compare_run import CompareRun
    from lcam_cli.runs.comparison import Comparison
    from lcam_cli.runs.engine import new_engine, note_unused_gpus, place_maps
    from lcam_cli.runs.log import log_to
    from lcam_cli.runs.pictures import find_pictures
    from lcam_cli.runs.skipped import SkippedPictures
    from lcam_cli.scale.ranks import RESUME, device_of, together

    context.with_resource(narrow_pictures.reported_to(console.warn))
    context.with_resource(log_to(console))
    names = parse_methods(methods)
    classifier = o.backbone_options(context.params)
    device = device_of(rank_info, device)
    with together(rank_info, device) as ranks:
        chosen = choose_candidates(
            names,
            attention or [],
            classifier,
            MethodOptions(seed=seed, rise_masks=rise_masks, rise_cells=rise_cells, rise_p=rise_p),
            floor=floor,
            reporter=console,
        )
        network = chosen.backbone
        found = ranks.share(
            lambda: find_pictures(images, o.picture_options(context.params), console)
        )
        found.paths = sample(found.paths, max_images, seed)
        engine = new_engine(
            network,
            console,
            device=device,
            # The measures are defined in fp32: auto does not trade them for speed.
            precision="fp32" if precision == "auto" else precision,
            batch_size=batch_size,
        )
        note_unused_gpus(engine, rank_info, "compare", console)
        place_maps(engine, chosen.methods.values(), align, console)
        task = Task(
            found.paths,
            ClassChoice(tuple(network.class_index(name) for name in class_ or ())),
            o.parse_nus(nu),
            [name for name in _parse_metrics(metrics) if name in _CURVES],
            mask_space,
            shown_pictures(len(found.paths), _PICTURES_SHOWN),
        )
        comparison = Comparison(
            engine,
            found,
            task,
            [
                Candidate(name, method, Terms.empty(task, network.preprocess.image_size))
                for name, method in chosen.methods.items()
            ],
            CompareState(state, engine, task),
            keep_maps=out is not None or report is not None,
        )
        run = CompareRun(comparison, ranks)
        skipped = SkippedPictures(console, strict)
        tell = _once(skipped)
        if ranks.is_first:
            context.with_resource(lock_folder(comparison.state.folder))
            for item in found.skipped:
                skipped(item)
            if resume and not any(comparison.state.parts(e) for e in comparison.candidates):
                console.info(f"nothing to resume in {comparison.state.folder}: starting anew")
        try:
            plan = run.plan(resume=resume)
            if plan.taken:
                console.info(f"taken over from an earlier run: {', '.join(plan.taken)}")
            run.run(
                plan,
                console,
                workers=readers,
                max_pixels=max_pixels or MAX_PIXELS,
                skip=tell,
            )
        except KeyboardInterrupt:
            # At once: a batch of RISE can take an hour, and what is finished is saved already.
            console.error(
                f"interrupted; what was finished is saved in {comparison.state.folder}",
                RESUME,
            )
            raise typer.Exit(130) from None
    if not ranks.is_first:
        return
    run.collect(tell)
    failed = [candidate for candidate in comparison.candidates if candidate.failed]
    if len(failed) == len(comparison.candidates):
        if NOT_NUMBERS in failed[0].failed:
            raise no_numbers(len(task.paths), engine.hardware.precision)
        raise LcamError(
            f"no method explained any of the {len(task.paths)} pictures: {failed[0].failed}",
            "check the pictures and the backbone",
        )
    for candidate in failed:
        if candidate.name in (names or ()):
            raise LcamError(f"gave {candidate.name} up: {candidate.failed}", "leave it out")
        console.warn(f"left out {candidate.name}: {candidate.failed}")
        chosen.left_out.append(candidate.name)
        comparison.candidates.remove(candidate)
    results = comparison.results(seed)
    if out is not None:
        comparison.join_maps(out)
        console.info(f"the maps of all methods are in {out}")
    if figure is not None:
        comparison.draw(figure, max_pixels or MAX_PIXELS)
        mark_figure(figure, found.root)
        console.info(f"some of them are drawn in {figure}")
    if report is not None:
        page = comparison.report(
            report, results, console, workers=readers, max_pixels=max_pixels or MAX_PIXELS
        )
        console.info(f"the report is {page}")
    comparison.drop_maps()
    for words in undefined_words(results):
        console.warn(words)
    comparison.warn_of_flat_maps(console, results)
    written.write(results, format_, None, console)
    if results.skipped:
        console.warn(f"{results.skipped} of the inputs are in no row (exit code 3)")
    raise typer.Exit(3 if results.skipped or chosen.left_out else 0)


def _once(tell: Callable[[Skipped], None]) -> Callable[[Skipped], None]:
    """Tell of each picture once, though every sweep meets it."""
    met: set[str] = set()

    def skip(skipped: Skipped) -> None:
        if skipped.path not in met:
            met.add(skipped.path)
            tell(skipped)

    return skip
