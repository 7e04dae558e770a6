"""``sanity_check``: are these maps of this network at all?"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from lcam_cli.locks import lock_file
from lcam_cli.runs.checks import given
from lcam_cli.runs.early import check_backbone_there, check_methods_known
from lcam_cli.runs.inputs import Inputs, check_there, listed
from lcam_cli.runs.named_results import check_results
from lcam_cli.runs.paths import pinned, plain
from lcam_cli.runs.readers import start_readers
from lcam_cli.runs.reporter import Reporter
from lcam_cli.runs.sanity_options import SanityOptions
from lcam_cli.runs.stop import Stop
from lcam_cli.runs.targets import FIGURE_SUFFIXES, check_apart, check_target
from lcam_cli.working_folder import working_folder_kept

if TYPE_CHECKING:
    from lcam_cli.runs.sanity_outcome import SanityResult


def sanity_check(
    images: Inputs,
    options: SanityOptions | None = None,
    *,
    reporter: Reporter | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> SanityResult:
    """Draw a network's weights anew, from its last layers down, and see whether maps change.

    As ``lcam sanity``: the model parameter randomisation test (Adebayo et al., NeurIPS 2018). The
    classifier is a copy; a network that a function of yours returns stays as it is.

    Args:
        images: Images, folders of them or tars: a path, or several.
        options: What is checked, and where the results go.
        reporter: Is told what goes on; None passes warnings to the logger ``"lcam"``.
        stop: Asked after every method and stage; True ends the run without a result.

    Raises:
        LcamError: A method, attention or backbone does not exist or does not fit; the network has
            no weights that can be drawn; an output is there already; or no image can be read.
    """
    options = pinned(given("options", options, SanityOptions))
    reporter = given("reporter", reporter, Reporter)
    ending, inputs = Stop(stop), listed("images", images)
    results = options.results
    check_target(options.figure, "--figure", options.overwrite, FIGURE_SUFFIXES)
    check_results(results, options.overwrite)
    check_apart(options.figure, "--figure", {"--out": results.files})
    with ExitStack() as held:
        held.enter_context(working_folder_kept())
        for target in (*results.files, options.figure):
            if target is not None:
                held.enter_context(lock_file(target))
        check_there(inputs)
        check_backbone_there(options.backbone.backbone, options.backbone.weights)
        check_methods_known(options.methods or (), or_groups=True)
        readers = start_readers(options.engine.workers)
        # It imports torch, which takes longer than the readers' start and than any refusal.
        from lcam_cli.runs.sanity_outcome import sanity  # noqa: PLC0415

        return plain(sanity(inputs, options, readers, reporter, ending))
