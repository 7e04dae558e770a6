"""Explaining images, from finding them to a file or folder of maps. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from lcam_cli.errors import LcamError, plural
from lcam_cli.images.depth import narrow_pictures
from lcam_cli.methods.explain import ClassChoice
from lcam_cli.runs.drawing import note_drawing
from lcam_cli.runs.engine import new_engine, note_unused_gpus, place_maps
from lcam_cli.runs.explain_options import ExplainOptions
from lcam_cli.runs.explain_ranks import explain_by_ranks
from lcam_cli.runs.explain_run import ExplainRun, PartResult
from lcam_cli.runs.explain_task import ExplainTask, Part
from lcam_cli.runs.flat_maps import reason_of_picture, warn_of_flat_maps
from lcam_cli.runs.half_precision import COSTS_MAPS, hint_at_bf16
from lcam_cli.runs.log import log_to
from lcam_cli.runs.method import backbone_and_method, method_options, with_last_layer
from lcam_cli.runs.outputs import check_shared, locks_of
from lcam_cli.runs.pictures import find_pictures
from lcam_cli.runs.reporter import Reporter
from lcam_cli.runs.skipped import SkippedPictures
from lcam_cli.runs.stop import Stop
from lcam_cli.runs.targets import is_hdf5
from lcam_cli.scale.rank_info import RankInfo
from lcam_cli.scale.ranks import Exit, Ranks, device_of, together
from lcam_cli.scale.shares import shard_file, shard_range, shards_of


@dataclass(frozen=True)
class ExplainResult:
    """How explaining images ended.

    Attributes:
        out: The file or folder with the maps; of a shard, its own.
        rows: Maps in it, one per image and class; 0 where the run was interrupted.
        skipped: How many inputs were left out.
        skipped_what: What is the matter with them, as the end of a sentence.
        flat_maps: Maps that are the same everywhere, and so say nothing.
        was_complete: Whether an earlier run had finished it, so that nothing was done.
        interrupted: Whether ``stop`` ended the run; ``resume`` goes on from there.
        is_first: Whether this is the first of several ranks, or the only one. The others know
            neither rows nor flat maps.
    """

    out: Path
    rows: int = 0
    skipped: int = 0
    skipped_what: str = ""
    flat_maps: int = 0
    was_complete: bool = False
    interrupted: bool = False
    is_first: bool = True


def explain(
    inputs: Sequence[str],
    out: Path,
    options: ExplainOptions,
    workers: int,
    reporter: Reporter,
    stop: Stop,
) -> ExplainResult:
    """Explain images; see :func:`~lcam_cli.runs.explain.explain_folder`."""
    rank_info = RankInfo.of_environment()
    device = device_of(rank_info, options.engine.device)
    with ExitStack() as stack, together(rank_info, device) as ranks:
        stack.enter_context(narrow_pictures.reported_to(reporter.warn))
        stack.enter_context(log_to(reporter))
        settings = method_options(options.seed, options.contrast, options.layers, options.fuse)
        backbone, method = backbone_and_method(
            options.method,
            options.attention,
            with_last_layer(options.backbone, options.layers),
            settings,
            reporter,
        )
        classes = tuple(backbone.class_index(name) for name in options.class_names)
        found = ranks.share(lambda: find_pictures(inputs, options.pictures, reporter, options.seed))
        engine = new_engine(backbone, replace(options.engine, device=device), reporter)
        note_unused_gpus(engine, rank_info, "explain", reporter)
        place_maps(engine, [method], options.align, reporter)
        note_drawing(
            options.overlays,
            out,
            engine.backbone.preprocess,
            reporter,
            of_regions=options.regions is not None,
        )
        task = ExplainTask(engine, method, found, ClassChoice(classes, options.top_k))
        part = _part(task, out, options.shard)
        if ranks.is_first:
            folder = None if options.shard else options.overlays.folder
            for lock in locks_of(part.out, folder, options.regions):
                stack.enter_context(lock)
        skipped = SkippedPictures(reporter, options.pictures.strict)
        run = ExplainRun(task, options, skipped, workers)
        reporter.info(f"explaining {plural(len(part.pictures), 'image')} with {method.name}")
        if not options.resume:  # what is there was begun in the precision that it has
            passes = len(part.pictures) * max(1, method.forward_passes)
            hint_at_bf16(engine, options.engine, passes, COSTS_MAPS, reporter)
        done = _explain(run, part, ranks, reporter, stop)
        if ranks.is_first and done is not None:
            _report_end(task, done, part.out, reporter)
        result = ExplainResult(
            part.out,
            done.rows if done else 0,
            skipped.count,
            skipped.what,
            flat_maps=done.flat.rows if done and done.flat else 0,
            was_complete=done is not None and done.was_complete,
            interrupted=done is None,
            is_first=ranks.is_first,
        )
        if result.interrupted:
            raise Exit
    return result


def _part(task: ExplainTask, out: Path, shard: tuple[int, int] | None) -> Part:
    """Return all images, or part ``i`` of ``n`` of them, with where their maps go."""
    if shard is None:
        return task.all_pictures(out)
    check_shared(out)
    pictures = shard_range(len(task.found.paths), task.batch_size, *shard)
    return task.part(shard_file(out, *shard), pictures)


def _explain(
    run: ExplainRun, part: Part, ranks: Ranks, reporter: Reporter, stop: Stop
) -> PartResult | None:
    """Explain a part, alone or with the other ranks; None where it was stopped."""
    # One process may finish what ranks began.
    begun_by_ranks = part.shard is None and is_hdf5(part.out) and bool(shards_of(part.out))
    if begun_by_ranks and run.options.regions is not None:
        raise LcamError(
            f"{part.out} was started by several processes, which cannot write --regions",
            "remove --regions, or use another --out",
        )
    with reporter.progress(len(part.pictures), "explain", "images") as progress:
        if ranks.info.size > 1 or begun_by_ranks:
            ranks.show(progress.advance)
            return explain_by_ranks(run, part.out, ranks, stop)
        return run.explain(part, progress.advance, stop)


def _report_end(task: ExplainTask, done: PartResult, out: Path, reporter: Reporter) -> None:
    """Say what may surprise about maps that are all there."""
    if done.was_complete:
        reporter.info(f"{out} is already complete: nothing to do")
    if done.flat is not None:
        name = task.method.name
        path = str(Path(task.found.root) / done.flat.path)
        why = reason_of_picture(task.engine, task.method, path, done.flat.class_index)
        warn_of_flat_maps(reporter, {name: (done.flat.rows, done.rows)}, why)
