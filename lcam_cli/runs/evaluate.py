"""``evaluate_maps``: how good are the maps of a file?"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from lcam_cli.locks import lock_file
from lcam_cli.runs.by_class import check_by_class
from lcam_cli.runs.checks import checked, given, path
from lcam_cli.runs.early import check_backbone_there, check_maps_there
from lcam_cli.runs.evaluate_options import EvaluateOptions
from lcam_cli.runs.gates import Gates
from lcam_cli.runs.named_results import check_results
from lcam_cli.runs.paths import pinned, plain
from lcam_cli.runs.per_image import check_per_image
from lcam_cli.runs.readers import start_readers
from lcam_cli.runs.reporter import Reporter
from lcam_cli.runs.result_files import claimed_report
from lcam_cli.runs.stop import Stop
from lcam_cli.runs.targets import check_apart
from lcam_cli.working_folder import working_folder_kept

if TYPE_CHECKING:
    from lcam_cli.runs.evaluate_outcome import EvaluateResult


def evaluate_maps(
    maps: str | Path,
    options: EvaluateOptions | None = None,
    *,
    reporter: Reporter | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> EvaluateResult:
    """Score the maps of a file by Average Drop and Increase in Confidence, as ``lcam evaluate``.

    The file knows its images, backbone, weights and classes: nothing else is needed.

    Args:
        maps: The file; :func:`~lcam_cli.runs.explain.explain_folder` writes one.
        options: What is measured, and where the results go.
        reporter: Is told what goes on; None passes warnings to the logger ``"lcam"``.
        stop: Asked after every batch; True ends the run without a result.

    Raises:
        LcamError: The file is no maps file, or does not fit the backbone; ``out``, ``report`` or
            ``per_image`` is there already; or no image can be read.
        UnwrittenPageError: The page cannot be written; it has the result.
    """
    options = pinned(given("options", options, EvaluateOptions))
    reporter = given("reporter", reporter, Reporter)
    ending, file = Stop(stop), checked("maps", maps, path)
    results = options.results
    check_results(results, options.overwrite)
    gates = Gates.of(options)
    # A run that fails its gates must not become what the next one is compared with.
    written = {"--out": results.files, "--per-image": options.per_image}
    check_apart(options.worse_than, "--worse-than", written)
    labels = None if options.labels == "folders" else options.labels
    others = {"--out": results.files, "--labels": labels, "--boxes": options.boxes, "MAPS": file}
    check_by_class(options.by_class, options.overwrite)
    check_apart(
        options.by_class,
        "--by-class",
        {"--out": results.files, "--per-image": options.per_image},
    )
    check_per_image(options.per_image, options.overwrite, others, options.report)
    with ExitStack() as held:
        held.enter_context(working_folder_kept())
        check_maps_there(file)
        check_backbone_there(options.backbone.backbone, options.backbone.weights)
        if options.report is not None:
            held.enter_context(claimed_report(options.report, options.overwrite))
        for target in (*results.files, options.per_image, options.by_class):
            if target is not None:
                held.enter_context(lock_file(target))
        readers = start_readers(options.engine.workers)
        # It imports torch, which takes longer than the readers' start and than any refusal.
        from lcam_cli.runs.evaluate_outcome import evaluate  # noqa: PLC0415

        return plain(evaluate(file, options, gates, readers, reporter, ending))
