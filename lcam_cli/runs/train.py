"""``train_attention``: an attention that is learned on images, in the folder of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lcam_cli.runs.checks import given
from lcam_cli.runs.early import check_backbone_there
from lcam_cli.runs.inputs import Inputs, check_there, listed
from lcam_cli.runs.paths import pinned, plain
from lcam_cli.runs.readers import start_readers
from lcam_cli.runs.reporter import Reporter
from lcam_cli.runs.stop import Stop
from lcam_cli.runs.train_options import TrainOptions
from lcam_cli.working_folder import working_folder_kept

if TYPE_CHECKING:
    from lcam_cli.runs.train_outcome import TrainResult


def train_attention(
    data: Inputs,
    options: TrainOptions | None = None,
    *,
    reporter: Reporter | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> TrainResult:
    """Train an attention on images, as ``lcam train`` does.

    A run that ends early leaves its last checkpoint, at most two minutes old; with ``stop`` it
    leaves one of where it is. Processes that torchrun has started train together.

    Args:
        data: Images, folders of them or tars: a path, or several.
        options: How; None for the command's defaults, which name no classifier.
        reporter: Is told of progress, of warnings and of what is going on; None for one that passes
            warnings to the logger ``"lcam"`` and nothing else.
        stop: Asked after every batch; True ends the run with a checkpoint.

    Raises:
        LcamError: An option, the classifier or an image does not exist or does not fit; the folder
            holds a run already, or one is writing to it; the loss is no number; the disk is full.
    """
    options = given("options", options, TrainOptions)
    reporter = given("reporter", reporter, Reporter)
    ending, inputs = Stop(stop), listed("data", data)
    with working_folder_kept():
        check_there(inputs)
        check_backbone_there(options.backbone.backbone, options.backbone.weights)
        readers = start_readers(options.engine.workers)
        # It imports torch, which takes longer than the readers' start.
        from lcam_cli.runs.train_outcome import train  # noqa: PLC0415

        return plain(train(inputs, pinned(options), readers, reporter, ending))
