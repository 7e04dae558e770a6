"""``explain_folder``: a map for every image, in a file or folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lcam_cli.errors import LcamError
from lcam_cli.runs.checks import checked, given, path
from lcam_cli.runs.early import check_backbone_there, check_methods_known
from lcam_cli.runs.explain_options import ExplainOptions
from lcam_cli.runs.explain_targets import check_stored
from lcam_cli.runs.inputs import Inputs, check_there, listed
from lcam_cli.runs.paths import pinned, plain
from lcam_cli.runs.readers import start_readers
from lcam_cli.runs.reporter import Reporter
from lcam_cli.runs.stop import Stop
from lcam_cli.runs.targets import check_maps_target
from lcam_cli.scale.rank_info import RankInfo
from lcam_cli.working_folder import RunPath, working_folder_kept

if TYPE_CHECKING:
    from lcam_cli.runs.explain_outcome import ExplainResult


def explain_folder(
    images: Inputs,
    out: str | Path = "maps.h5",
    options: ExplainOptions | None = None,
    *,
    reporter: Reporter | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> ExplainResult:
    """Explain images into a file or folder, as ``lcam explain`` does.

    What is done is saved however the run ends, Ctrl-C included, and ``resume`` goes on from there.
    Processes that torchrun has started share the images out between them.

    Args:
        images: Images, folders of them or tars: a path, or several.
        out: An HDF5 file (``*.h5``), or a folder of PNGs and overlays.
        options: How; None for the command's defaults.
        reporter: Is told of progress, of warnings and of what is going on; None for one that passes
            warnings to the logger ``"lcam"`` and nothing else.
        stop: Asked after every batch; True ends the run with what is done saved.

    Raises:
        LcamError: The method, the classifier, a class or an image does not exist; ``out`` is there
            already, of another run, or being written by one; the disk is full.
    """
    options = given("options", options, ExplainOptions)
    reporter = given("reporter", reporter, Reporter)
    ending, inputs = Stop(stop), listed("images", images)
    target = checked("out", out, path)
    check_maps_target(target)
    check_stored(options, target)
    if options.shard and RankInfo.of_environment().size > 1:
        raise LcamError(
            "--shard cannot be used with torchrun",
            "remove --shard: the ranks share the images automatically",
        )
    with working_folder_kept():
        check_there(inputs)
        check_backbone_there(options.backbone.backbone, options.backbone.weights)
        check_methods_known([options.method] if options.method else [])
        readers = start_readers(options.engine.workers)
        # It imports torch, which takes longer than the readers' start.
        from lcam_cli.runs.explain_outcome import explain  # noqa: PLC0415

        out = RunPath(target)
        return plain(explain(inputs, out, pinned(options), readers, reporter, ending))
