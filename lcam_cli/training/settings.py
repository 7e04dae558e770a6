"""What a training run does, and what its files say of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields

from lcam_cli.engine.engine import Engine
from lcam_cli.images.read import MAX_PIXELS
from lcam_cli.maps.record import preprocess_of_0_1
from lcam_cli.methods.attention_file import AttentionSettings
from lcam_cli.training.recipes import Mode, Recipe


@dataclass(frozen=True)
class TrainingSettings:
    """What a run does, apart from the backbone and the images.

    Attributes:
        mode: What is learned: L-CAM's ``"img"`` and ``"fm"``, or another of ``recipes.Mode``.
        recipe: Every number.
        layers: Of mode ``"tame"``: the layers, in the order of the network, the target layer last;
            empty for the ends of the last three stages.
        labels: Of the modes that train the classifier's head: the true classes of the images,
            in their order; None for the frozen classifier's predictions, as in all other modes.
        seed: Of the start, the order and the crops.
        workers: Processes that read images.
        max_pixels: Images with more are skipped.
    """

    mode: Mode
    recipe: Recipe
    layers: tuple[str, ...] = ()
    labels: tuple[int, ...] | None = None
    seed: int = 0
    workers: int = 2
    max_pixels: int = MAX_PIXELS


_NEW_IN_RECIPES = {
    field.name: field.default
    for field in fields(Recipe)
    if field.name in ("keep_aside", "kernel", "lambda_drop", "lr_delta", "min_steps", "shown")
}
"""What recipes of 0.1.0 did not have, and the value that means it is not there."""


def attention_settings(
    engine: Engine, settings: TrainingSettings, pictures: int
) -> AttentionSettings:
    """What the attention file says of a run on so many images."""
    backbone = engine.backbone
    training = {
        "mode": settings.mode,
        "seed": settings.seed,
        "pictures": pictures,
        "precision": engine.hardware.precision,
        **settings.recipe.to_json(),
    }
    if settings.labels is not None:
        text = ",".join(map(str, settings.labels))
        training["labels"] = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    if settings.layers:
        training["layers"] = list(settings.layers)
    return AttentionSettings(backbone.identity, backbone.class_names, backbone.preprocess, training)


def fingerprint(engine: Engine, paths: Sequence[str], settings: TrainingSettings) -> str:
    """What must be the same for a checkpoint to be continued."""
    described = attention_settings(engine, settings, len(paths))
    # Another precision is what a run may need to go on with.
    training = {k: v for k, v in described.training.items() if k != "precision"}
    training["cycles"] = 1  # 0.1.0 knew cycles: its runs of one go on
    identity = vars(described.identity) | {"weights_file": ""}
    for what in ("output", "probabilities"):  # 0.1.0 had neither: its runs go on
        if not identity[what]:
            del identity[what]
    for what, default in _NEW_IN_RECIPES.items():  # nor these
        if training[what] == default:
            del training[what]
    record = [
        training,
        identity,
        preprocess_of_0_1(described.preprocess.to_json()),
        hashlib.sha256("\0".join(paths).encode("utf-8", "surrogateescape")).hexdigest(),
    ]
    return json.dumps(record, sort_keys=True)
