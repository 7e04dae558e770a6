"""Which method a run explains with, and the backbone that it explains. Imports torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.contrast import Contrast
from lcam_cli.errors import LcamError
from lcam_cli.methods.attention_file import check_fits, find_attention, load_attention
from lcam_cli.methods.base import Method
from lcam_cli.methods.fused import Fuse
from lcam_cli.methods.options import MethodOptions
from lcam_cli.methods.registry import contrasting, find_method, make_method
from lcam_cli.methods.trained import LCAM, is_trained, method_of, names_of
from lcam_cli.runs.authors_tame import with_its_backbone
from lcam_cli.runs.backbone import backbone_of_file, new_backbone
from lcam_cli.runs.newest_run import newest_run
from lcam_cli.runs.options import BackboneOptions
from lcam_cli.runs.other_fit import note_other_fit
from lcam_cli.runs.reporter import Reporter


def method_options(
    seed: int, contrast: str | None, layers: Sequence[str], fuse: Fuse | None
) -> MethodOptions:
    """What methods are made with, of what was typed.

    Raises:
        LcamError: The contrast is none.
    """
    parsed = None if contrast is None else Contrast.parse(contrast)
    return MethodOptions(seed, contrast=parsed, layers=tuple(layers), fuse=fuse)


def with_last_layer(options: BackboneOptions, layers: Sequence[str]) -> BackboneOptions:
    """The backbone's options where several layers are fused: the last is its target layer.

    Raises:
        LcamError: Another is named beside them.
    """
    if not layers:
        return options
    if options.layer not in (None, layers[-1]):
        raise LcamError(
            f"layer {options.layer!r} is not the last of the layers to fuse, {', '.join(layers)}",
            "remove it, or pass it last",
        )
    return dataclasses.replace(options, layer=layers[-1])


def refuse_for_trained(method: str, settings: MethodOptions) -> None:
    """Refuse what goes with no trained attention.

    Raises:
        LcamError: A contrast, several layers or a fusion were asked for.
    """
    if settings.contrast is not None:
        raise LcamError(
            f"{method} does not support --contrast: its weights are trained",
            f"use one of these, which do: {', '.join(contrasting())}",
        )
    if settings.layers or settings.fuse is not None:
        raise LcamError(
            f"{method} explains only the layer that it was trained on and cannot fuse others",
            "pass one --layer or none, or train with --mode tame, which learns from several",
        )


def backbone_and_method(
    method: str | None,
    attention: Path | None,
    options: BackboneOptions,
    settings: MethodOptions,
    reporter: Reporter,
) -> tuple[Backbone, Method]:
    """Load the method that is named, and the backbone it explains.

    A trained attention brings its own backbone. L-CAM's authors' checkpoints do not say which
    theirs was, so there the options name it; TAME's may.

    Args:
        method: Its name; None for that of a trained attention, whichever it is.
        attention: A trained one; None for the newest run that fits.
        options: The backbone as typed.
        settings: What the method is made with; its seed is that of random weights too.
        reporter: Is told which run is taken.

    Raises:
        LcamError: The method, the attention or the backbone does not exist, or they do not fit.
    """
    if method is not None and not is_trained(method):
        if attention is not None:
            raise LcamError(f"--attention cannot be used with --method {method}", "remove one")
        find_method(method)  # a mistyped name is told before a backbone is downloaded
        backbone = new_backbone(options, settings.seed)
        return backbone, make_method(method, backbone, options=settings)
    if attention is None:
        refuse_for_trained(method or LCAM, settings)
        file = newest_run(method, options, reporter)
    else:
        file = load_attention(find_attention(attention))
        if file.origin is not None and settings.fuse is None:  # several layers are those it reads
            layers, settings = settings.layers, dataclasses.replace(settings, layers=())
            file, options = with_its_backbone(file, options, layers, reporter)
        refuse_for_trained(method or LCAM, settings)
    note_other_fit([file], options.fit, reporter)
    row = names_of(file)[0] if method in (None, LCAM) else method
    if row not in names_of(file):
        raise LcamError(
            f"{file.path} is not an attention of {method}",
            f"use one of {', '.join(names_of(file))}",
        )
    if file.settings is None:
        backbone = new_backbone(options, settings.seed)
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
