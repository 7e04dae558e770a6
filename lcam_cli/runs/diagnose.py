"""``diagnose_folder``: why are images misclassified, and which classes may be biased?"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from lcam_cli.locks import lock_file
from lcam_cli.runs.checks import checked, given, text
from lcam_cli.runs.diagnose_options import DiagnoseOptions
from lcam_cli.runs.early import check_backbone_there, check_methods_known
from lcam_cli.runs.inputs import Inputs, check_there, listed
from lcam_cli.runs.named_results import check_results
from lcam_cli.runs.paths import pinned, plain
from lcam_cli.runs.readers import start_readers
from lcam_cli.runs.reporter import Reporter
from lcam_cli.runs.result_files import claimed_report
from lcam_cli.runs.stop import Stop
from lcam_cli.runs.targets import FIGURE_SUFFIXES, check_apart, check_target
from lcam_cli.working_folder import working_folder_kept

if TYPE_CHECKING:
    from lcam_cli.runs.diagnose_outcome import DiagnoseResult


def diagnose_folder(
    images: Inputs,
    labels: str | Path,
    options: DiagnoseOptions | None = None,
    *,
    reporter: Reporter | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> DiagnoseResult:
    """Explain misclassified images and put each into one group, as ``lcam diagnose``.

    Args:
        images: Images, folders of them or tars: a path, or several.
        labels: ``"folders"``: an image's folder is named after its class; or a file with a line
            ``NAME CLASS`` an image.
        options: How, and where the results go.
        reporter: Is told what goes on; None passes warnings to the logger ``"lcam"``.
        stop: Asked after every batch; True ends the run without a result.

    Raises:
        LcamError: The method, attention or backbone does not exist or does not fit; the labels
            cannot be read or name unknown classes; an output is there already; or no image can
            be read.
    """
    options = pinned(given("options", options, DiagnoseOptions))
    reporter = given("reporter", reporter, Reporter)
    ending, inputs = Stop(stop), listed("images", images)
    truth = checked("labels", labels, text)
    results = options.results
    check_target(options.figure, "--figure", options.overwrite, FIGURE_SUFFIXES)
    check_results(results, options.overwrite)
    check_apart(options.figure, "--figure", {"--out": results.files})
    with ExitStack() as held:
        held.enter_context(working_folder_kept())
        if options.report is not None:
            held.enter_context(claimed_report(options.report, options.overwrite))
        for target in (*results.files, options.figure):
            if target is not None:
                held.enter_context(lock_file(target))
        check_there(inputs)
        check_backbone_there(options.backbone.backbone, options.backbone.weights)
        second = options.second_method
        named = (options.method, None if second in ("auto", "none") else second)
        check_methods_known(name for name in named if name)
        readers = start_readers(options.engine.workers)
        # It imports torch, which takes longer than the readers' start and than any refusal.
        from lcam_cli.runs.diagnose_outcome import diagnose  # noqa: PLC0415

        return plain(diagnose(inputs, truth, options, readers, reporter, ending))
