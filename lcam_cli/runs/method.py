"""Which method a run explains with, and the backbone that it explains. Imports torch."""

from __future__ import annotations

from pathlib import Path

from lcam_cli.engine.backbone import Backbone
from lcam_cli.errors import LcamError
from lcam_cli.methods.attention_file import check_fits, find_attention, load_attention
from lcam_cli.methods.base import Method
from lcam_cli.methods.registry import find_method, make_method
from lcam_cli.methods.trained import LCAM, is_trained, method_of, names_of
from lcam_cli.runs.backbone import backbone_of_file, new_backbone
from lcam_cli.runs.newest_run import newest_run
from lcam_cli.runs.options import BackboneOptions
from lcam_cli.runs.other_fit import note_other_fit
from lcam_cli.runs.reporter import Reporter


def backbone_and_method(
    method: str | None,
    attention: Path | None,
    options: BackboneOptions,
    seed: int,
    reporter: Reporter,
) -> tuple[Backbone, Method]:
    """Load the method that is named, and the backbone it explains.

    A trained attention brings its own backbone. The authors' checkpoints do not say which theirs
    was, so there the options name it.

    Args:
        method: Its name; None for that of a trained attention, whichever it is.
        attention: A trained one; None for the newest run that fits.
        options: The backbone as typed.
        seed: For random weights, and whatever the method draws.
        reporter: Is told which run is taken.

    Raises:
        LcamError: The method, the attention or the backbone does not exist, or they do not fit.
    """
    if method is not None and not is_trained(method):
        if attention is not None:
            raise LcamError(f"--attention does not go with --method {method}", "leave one out")
        find_method(method)  # a mistyped name is told before a backbone is downloaded
        backbone = new_backbone(options, seed)
        return backbone, make_method(method, backbone, seed=seed)
    if attention is not None:
        file = load_attention(find_attention(attention))
    else:
        file = newest_run(method, options, reporter)
    note_other_fit([file], options.fit, reporter)
    row = names_of(file)[0] if method in (None, LCAM) else method
    if row not in names_of(file):
        raise LcamError(
            f"{file.path} is no attention of {method}", f"it is one of {', '.join(names_of(file))}"
        )
    if file.settings is None:
        backbone = new_backbone(options, seed)
    else:
        backbone = backbone_of_file(
            str(file.path),
            file.settings.identity,
            options,
            class_names=file.settings.class_names,
            preprocess=file.settings.preprocess,
        )
    check_fits(file, backbone)
    return backbone, method_of(file, row)
