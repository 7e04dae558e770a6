"""The backbone of a checkpoint of TAME's or T-TAME's authors, which says some of it itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from lcam_cli.methods.attention_file import AttentionFile
from lcam_cli.methods.tame import Tame
from lcam_cli.methods.tame_file import PUBLISHED, settled
from lcam_cli.runs.options import BackboneOptions
from lcam_cli.runs.reporter import Reporter

_WEIGHTS = "IMAGENET1K_V1"
"""What the authors trained on; torchvision's default for ResNet-50 has become another."""


def with_its_backbone(
    file: AttentionFile,
    options: BackboneOptions,
    layers: Sequence[str],
    reporter: Reporter,
) -> tuple[AttentionFile, BackboneOptions]:
    """Settle what an authors' checkpoint reads, and the backbone's options that go with it.

    What is typed stays. Where no weights are typed, the classifier's own in the file are taken:
    those that the attention was trained with.

    Args:
        file: Any attention file; one of another kind comes back as it is.
        options: The backbone as typed.
        layers: Those that the attention reads, where the user names them.
        reporter: Is told which weights are taken.

    Raises:
        LcamError: The file is of another network, or nobody says which layers it reads.
    """
    origin = file.origin
    if origin is None:
        return file, options
    name = options.backbone
    if name is None and origin.network in PUBLISHED:
        name = origin.network
    if name is None:
        return file, options  # whoever loads the backbone says that none is named
    assert isinstance(file.attention, Tame)
    origin = settled(str(file.path), file.attention, origin, name, layers)
    weights = options.weights
    if weights is None and origin.classifier and name in (origin.network, *PUBLISHED):
        weights = str(file.path)
        reporter.info(
            f"using the weights of {name} in {file.path}, which its attention was trained on"
        )
    elif weights is None and name in PUBLISHED:
        weights = _WEIGHTS
    if not origin.version and name == "vit_b_16":
        reporter.warn(
            f"{file.path} does not say how class tokens are used: they are ignored, as in T-TAME's "
            "version TAME"
        )
    layer = options.layer or origin.target
    return (
        dataclasses.replace(file, origin=origin),
        dataclasses.replace(options, backbone=name, weights=weights, layer=layer),
    )


def with_their_backbone(
    files: Sequence[AttentionFile], options: BackboneOptions, reporter: Reporter
) -> tuple[list[AttentionFile], BackboneOptions]:
    """The same for several files, which all explain one backbone.

    A file of ``lcam train`` among them knows the backbone, whatever the others say.

    Raises:
        LcamError: As :func:`with_its_backbone`.
    """
    known = next((f.settings.identity.name for f in files if f.settings is not None), None)
    done = []
    for file in files:
        settled_file = file
        if known is None:
            settled_file, options = with_its_backbone(file, options, (), reporter)
        elif file.origin is not None:
            assert isinstance(file.attention, Tame)
            origin = settled(str(file.path), file.attention, file.origin, known, ())
            settled_file = dataclasses.replace(file, origin=origin)
        done.append(settled_file)
    return done, options
