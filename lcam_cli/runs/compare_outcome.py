"""A comparison from its beginning to its table, figure and report. Imports torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lcam_cli.errors import Interrupted, LcamError, plural
from lcam_cli.images.depth import narrow_pictures
from lcam_cli.images.find import Skipped
from lcam_cli.images.read import MAX_PIXELS
from lcam_cli.locks import lock_folder
from lcam_cli.maps.marks import mark_figure
from lcam_cli.measures.kept_comparisons import beyond, kept_comparisons, remove_comparison
from lcam_cli.methods.explain import NOT_NUMBERS, no_numbers
from lcam_cli.reports.output import rendered_results
from lcam_cli.reports.results import Results, to_json
from lcam_cli.reports.table import undefined_words
from lcam_cli.runs.by_class import by_class_target
from lcam_cli.runs.compare_options import CompareOptions
from lcam_cli.runs.compare_run import CompareRun
from lcam_cli.runs.compare_setup import new_comparison
from lcam_cli.runs.comparison import Comparison
from lcam_cli.runs.estimate import tell_estimate
from lcam_cli.runs.gates import Gates, missed
from lcam_cli.runs.half_precision import COSTS_MEASURES, hint_at_bf16
from lcam_cli.runs.labels import warn_of_label_order
from lcam_cli.runs.log import log_to
from lcam_cli.runs.reporter import Reporter
from lcam_cli.runs.result_files import write_results
from lcam_cli.runs.shown import split_shown
from lcam_cli.runs.skipped import SkippedPictures
from lcam_cli.runs.stop import Stop
from lcam_cli.scale.rank_info import RankInfo
from lcam_cli.scale.ranks import Exit, device_of, together


@dataclass(frozen=True)
class CompareResult:
    """What became of a comparison.

    Attributes:
        state: The folder that keeps what was finished.
        results: The rows; None where the run was stopped, and on all ranks but the first.
        left_out: Methods of groups, as ``methods=("all",)``, that cannot explain this network.
        failed: Methods of groups that can, and failed on every image.
        page: The report's page, where one was asked for.
        per_image: The file of every image's numbers, where one was asked for.
        missed_gates: A message for every threshold missed.
        interrupted: Whether ``stop`` ended the run; ``resume`` goes on from there.
        is_first: Whether this is the first of several ranks, or the only one.
    """

    state: Path
    results: Results | None = None
    left_out: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    page: Path | None = None
    per_image: Path | None = None
    missed_gates: tuple[str, ...] = ()
    interrupted: bool = False
    is_first: bool = True

    def to_dict(self) -> dict[str, Any] | None:
        """Return the results as plain data, the JSON object ``lcam-results/1``, if any."""
        return None if self.results is None else json.loads(to_json(self.results))


def compare(
    inputs: Sequence[str],
    options: CompareOptions,
    gates: Gates,
    readers: int,
    reporter: Reporter,
    stop: Stop,
) -> CompareResult:
    """Compare methods; see :func:`~lcam_cli.runs.compare.compare_folder`."""
    rank_info = RankInfo.of_environment()
    max_pixels = options.engine.max_pixels or MAX_PIXELS
    interrupted = done = False
    with ExitStack() as held:
        held.enter_context(narrow_pictures.reported_to(reporter.warn))
        held.enter_context(log_to(reporter))
        device = device_of(rank_info, options.engine.device)
        with together(rank_info, device) as ranks:
            comparison = new_comparison(inputs, options, device, ranks, reporter)
            if ranks.is_first:
                gates.check_methods([c.name for c in comparison.candidates], reporter)
            skipped = SkippedPictures(reporter, options.pictures.strict)
            skip = _once(skipped)
            if ranks.is_first:
                held.enter_context(lock_folder(comparison.state.folder))
                for item in comparison.found.skipped:
                    skipped(item)
                if options.resume and comparison.is_new:
                    reporter.info(
                        f"nothing to resume in {comparison.state.folder}: starting from the "
                        "beginning"
                    )
            run = CompareRun(comparison, ranks, stop)
            try:
                plan = run.plan(resume=options.resume)
                if plan.taken:
                    reporter.info(f"reused from an earlier run: {', '.join(plan.taken)}")
                if not options.resume:
                    passes = comparison.forward_passes * len(comparison.found.paths)
                    hint_at_bf16(
                        comparison.engine, options.engine, passes, COSTS_MEASURES, reporter
                    )
                if ranks.is_first:
                    tell_estimate(comparison, plan, ranks.info.size, reporter)
                run.run(plan, reporter, workers=readers, max_pixels=max_pixels, skip=skip)
            except KeyboardInterrupt:
                # At once: a batch of RISE can take an hour, and what is finished is saved already.
                interrupted = True
                raise Exit from None
            done = True
        if interrupted:
            raise Interrupted(Path(comparison.state.folder))
        if not done:
            return CompareResult(comparison.state.folder, interrupted=True, is_first=ranks.is_first)
        if not ranks.is_first:
            return CompareResult(comparison.state.folder, is_first=False)
        run.collect(skip)
        failed = _leave_out_failed(comparison, options.methods or (), reporter)
        results = comparison.results(options.seed)
        results = _gated(comparison, results, options, gates, reporter)
        page = _write_outputs(comparison, results, options, readers, reporter)
        comparison.drop_maps()
        _keep_to_limit(options, comparison.state.folder, reporter)
        _warn(comparison, results, reporter)
        return CompareResult(
            comparison.state.folder,
            results,
            tuple(comparison.left_out),
            failed,
            page,
            per_image=options.per_image,
            missed_gates=missed(results),
        )


def _keep_to_limit(options: CompareOptions, own: Path, reporter: Reporter) -> None:
    """Remove what the first written of other comparisons have kept, where it is too much."""
    kept, _ = kept_comparisons(own.parent)
    # This one counts, and stays.
    kept.sort(key=lambda one: one.folder != own)
    going = [one for one in beyond(kept, options.state_limit * 1e9) if one.folder != own]
    if removed := sum(remove_comparison(one) for one in going):
        reporter.info(
            f"removed what {plural(removed, 'earlier comparison')} had kept in {own.parent} "
            f"(--state-limit {options.state_limit:g} GB)"
        )


def _leave_out_failed(
    comparison: Comparison, named: Sequence[str], reporter: Reporter
) -> tuple[str, ...]:
    """Go on without the methods that explained nothing.

    Args:
        comparison: What is compared.
        named: The methods that were asked for by name.
        reporter: Is told which are left out.

    Returns:
        Their names.

    Raises:
        LcamError: One of them was asked for, or none explained anything.
    """
    failed = [candidate for candidate in comparison.candidates if candidate.failed]
    if len(failed) == len(comparison.candidates):
        count = len(comparison.task.paths)
        if NOT_NUMBERS in failed[0].failed:
            raise no_numbers(count, comparison.engine.hardware.precision)
        raise LcamError(
            f"no method could explain any of the {count} images: {failed[0].failed}",
            "check the images and the backbone",
        )
    for candidate in failed:
        if candidate.name in named:
            raise LcamError(
                f"stopped {candidate.name}: {candidate.failed}", "remove it from --methods"
            )
        reporter.warn(f"skipped {candidate.name}: {candidate.failed}")
        comparison.candidates.remove(candidate)
    return tuple(candidate.name for candidate in failed)


def _warn(comparison: Comparison, results: Results, reporter: Reporter) -> None:
    """Say what of the results may surprise."""
    objects = comparison.task.objects
    for words in [*undefined_words(results), *(() if objects is None else objects.lines())]:
        reporter.warn(words)
    comparison.warn_of_flat_maps(reporter, results)
    warn_of_label_order(results.accuracy, comparison.engine.backbone.class_names, reporter)


def _gated(
    comparison: Comparison,
    results: Results,
    options: CompareOptions,
    gates: Gates,
    reporter: Reporter,
) -> Results:
    """Return results with what thresholds say of them, and where every image's numbers are."""
    if options.per_image is not None:
        results = replace(results, per_image=options.per_image.name)
    names = [candidate.name for candidate in comparison.candidates]
    numbers = gates.gatherer(names, comparison.task.quantities)
    if numbers is not None:
        for rows in comparison.rows_of_numbers():
            numbers.add(rows)
    return gates.held(results, numbers, options.seed, reporter)


def _write_outputs(
    comparison: Comparison,
    results: Results,
    options: CompareOptions,
    readers: int,
    reporter: Reporter,
) -> Path | None:
    """Write all outputs that are wanted; return the report's page."""
    max_pixels = options.engine.max_pixels or MAX_PIXELS
    wanted = options.results
    if wanted.maps is not None:
        comparison.join_maps(wanted.maps)
        reporter.info(f"wrote the maps of all methods to {wanted.maps}")
    write_results(wanted, partial(rendered_results, results, intervals=options.intervals), reporter)
    if options.figure is not None:
        names = [candidate.name for candidate in comparison.candidates]
        comparison.draw(options.figure, results, max_pixels, split_shown(options.show, names)[1])
        mark_figure(options.figure, comparison.found.root)
        reporter.info(f"drew some maps in {options.figure}")
    if options.per_image is not None:
        comparison.write_numbers(options.per_image)
        reporter.info(f"every image's numbers are in {options.per_image}")
    if options.by_class is not None:
        comparison.write_classes(*by_class_target(options.by_class))
        reporter.info(f"wrote the means of each class to {options.by_class}")
    if options.report is None:
        return None
    page = comparison.report(
        options.report, results, reporter, workers=readers, max_pixels=max_pixels
    )
    reporter.info(f"wrote the report to {page}")
    return page


def _once(report: Callable[[Skipped], None]) -> Callable[[Skipped], None]:
    """Report each image once, though every sweep meets it."""
    met: set[str] = set()

    def skip(skipped: Skipped) -> None:
        if skipped.path not in met:
            met.add(skipped.path)
            report(skipped)

    return skip
