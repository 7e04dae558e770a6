"""``list_methods``: which methods there are, which can explain a network, and which to take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lcam_cli.runs.checks import given
from lcam_cli.runs.early import check_backbone_there
from lcam_cli.runs.methods_options import MethodsOptions
from lcam_cli.runs.reporter import Reporter
from lcam_cli.working_folder import working_folder_kept

if TYPE_CHECKING:
    from lcam_cli.reports.methods import MethodList


def list_methods(
    options: MethodsOptions | None = None, *, reporter: Reporter | None = None
) -> MethodList:
    """List the methods, as ``lcam methods`` does.

    Of a network it says which can explain it and why the others cannot, what a map costs on this
    machine, and which method to take. Its passes are timed on noise, for about a second.

    Args:
        options: Of which network; None for the methods alone.
        reporter: Is told what goes on; None passes warnings to the logger ``"lcam"``.

    Raises:
        LcamError: The classifier or the attention does not exist, or the network fails.
    """
    options = given("options", options, MethodsOptions)
    reporter = given("reporter", reporter, Reporter)
    check_backbone_there(options.backbone.backbone, options.backbone.weights)
    # It imports torch.
    from lcam_cli.runs.methods_outcome import all_methods, methods_of_network  # noqa: PLC0415

    with working_folder_kept():
        if options.of_a_network:
            return methods_of_network(options, reporter)
        return all_methods(reporter)
