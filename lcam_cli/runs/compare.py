"""``compare_folder``: several methods on the same images, side by side."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from lcam_cli.locks import lock_file
from lcam_cli.runs.by_class import check_by_class
from lcam_cli.runs.checks import given
from lcam_cli.runs.compare_options import CompareOptions
from lcam_cli.runs.early import check_backbone_there, check_methods_known
from lcam_cli.runs.gates import Gates
from lcam_cli.runs.inputs import Inputs, check_there, listed
from lcam_cli.runs.named_results import check_results
from lcam_cli.runs.paths import pinned, plain
from lcam_cli.runs.per_image import check_per_image
from lcam_cli.runs.readers import start_readers
from lcam_cli.runs.reporter import Reporter
from lcam_cli.runs.result_files import claimed_report
from lcam_cli.runs.stop import Stop
from lcam_cli.runs.targets import FIGURE_SUFFIXES, check_apart, check_target
from lcam_cli.scale.rank_info import RankInfo
from lcam_cli.working_folder import working_folder_kept

if TYPE_CHECKING:
    from lcam_cli.runs.compare_outcome import CompareResult


def compare_folder(
    images: Inputs,
    options: CompareOptions | None = None,
    *,
    reporter: Reporter | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> CompareResult:
    """Compare methods on the same images, as ``lcam compare``.

    Processes that torchrun has started share out the images; the first has the result. What is
    finished is kept in ``options.state``, and taken over with ``options.resume``.

    Args:
        images: Images, folders of them or tars: a path, or several.
        options: What is compared, and where the results go.
        reporter: Is told what goes on; None passes warnings to the logger ``"lcam"``.
        stop: Asked after every batch; True ends the run with what is finished saved.

    Raises:
        LcamError: A method, attention or backbone does not exist or does not fit; an output is
            there already; no image was explained; or another process was lost.
        Interrupted: Ctrl-C, a KeyboardInterrupt, once there is something to go on from.
    """
    options = pinned(given("options", options, CompareOptions))
    reporter = given("reporter", reporter, Reporter)
    ending, inputs = Stop(stop), listed("images", images)
    results = options.results
    check_results(results, options.overwrite)
    check_target(options.figure, "--figure", options.overwrite, FIGURE_SUFFIXES)
    check_apart(options.figure, "--figure", {"--out": results.files})
    others = {"--out": results.files, "--figure": options.figure, "--boxes": options.boxes}
    check_by_class(options.by_class, options.overwrite)
    check_apart(
        options.by_class,
        "--by-class",
        {"--out": results.files, "--per-image": options.per_image},
    )
    check_per_image(options.per_image, options.overwrite, others, options.report)
    gates = Gates.of(options)
    # A run that fails its gates must not become what the next one is compared with.
    written = {"--out": results.files, "--per-image": options.per_image}
    check_apart(options.worse_than, "--worse-than", written)
    with ExitStack() as held:
        held.enter_context(working_folder_kept())
        if RankInfo.of_environment().rank == 0:
            for target in (*results.files, options.figure, options.by_class):
                if target is not None:
                    held.enter_context(lock_file(target))
            if options.report is not None:
                held.enter_context(claimed_report(options.report, options.overwrite))
            if options.per_image is not None:
                held.enter_context(lock_file(options.per_image))
        check_there(inputs)
        check_backbone_there(options.backbone.backbone, options.backbone.weights)
        check_methods_known(options.methods or (), or_groups=True)
        readers = start_readers(options.engine.workers)
        # It imports torch, which takes longer than the readers' start and than any refusal.
        from lcam_cli.runs.compare_outcome import compare  # noqa: PLC0415

        return plain(compare(inputs, options, gates, readers, reporter, ending))
