"""Loading again the classifier that a file was made with, also where its head was trained.

The weights of such a classifier are an attention file: it holds the head, and names the frozen
classifier it was put on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.identity import Identity
from lcam_cli.engine.recall import Given, recall_backbone
from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.methods.attention_file import holds_trained_head, load_attention
from lcam_cli.methods.trained_head import TrainedHead


def recall_classifier(
    source: str,
    identity: Identity,
    given: Given,
    *,
    class_names: Sequence[str] | None,
    preprocess: Preprocess,
    redrawable: bool = False,
) -> Backbone:
    """Load the classifier that ``source`` was made with.

    Args:
        source: The file that tells of it, for messages.
        identity: What it says.
        given: What the user says beside it. Where a head was trained, ``weights`` may be the
            attention file or the frozen classifier's weights, whichever has moved.
        class_names: What it says of the classes; None where it does not.
        preprocess: What it says of the preprocessing.
        redrawable: Whether its weights will be drawn anew.

    Raises:
        LcamError: As :func:`~lcam_cli.engine.recall.recall_backbone`; or the attention file is
            another one, or no longer fits its classifier.
    """
    named = [Path(name) for name in (given.weights, identity.weights_file) if name]
    run = next((path for path in named if holds_trained_head(path)), None)
    if run is None:
        return recall_backbone(
            source,
            identity,
            given,
            class_names=class_names,
            preprocess=preprocess,
            redrawable=redrawable,
        )
    file = load_attention(run)
    settings, learned = file.settings, file.attention
    assert settings is not None
    assert settings.trained_on is not None
    assert isinstance(learned, TrainedHead)
    if settings.identity != identity:
        raise LcamError(
            f"{source} was not made with the trained head of {run}",
            "pass the attention file of that run: --weights FILE",
        )
    frozen = recall_backbone(
        str(run),
        settings.trained_on,
        replace(given, weights=None) if given.weights == str(run) else given,
        class_names=class_names,
        preprocess=preprocess,
        redrawable=redrawable,
    )
    K = frozen.feature_shape[0]
    if (learned.channels, learned.classes) != (K, frozen.num_classes):
        raise LcamError(
            f"{run} has a head of {learned.classes} classes on {learned.channels} feature maps, "
            f"but {identity.name} has {frozen.num_classes} classes and {K} feature maps",
            "train it again: the file is damaged",
        )
    return frozen.with_head(
        learned.module(), weights=identity.weights, weights_file=identity.weights_file
    )
