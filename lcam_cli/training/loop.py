"""The training loop: pictures in, an attention file out, resumable at any step."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.images.read import MAX_PIXELS
from lcam_cli.images.stream import stream_batches, stream_training
from lcam_cli.methods.attention_file import FILE_NAME, AttentionSettings, save_attention
from lcam_cli.training.log import TrainingLog, draw_losses
from lcam_cli.training.recipes import Recipe
from lcam_cli.training.rows import (
    FreeRows,
    SharedRows,
    classifier_rows,
    feature_scale,
    random_rows,
)
from lcam_cli.training.step import Mode, backward

CHECKPOINT = "checkpoint.pt"
_SECONDS_BETWEEN_CHECKPOINTS = 120.0
_PICTURES_FOR_CLASSIFIER_ROWS = 8
_PICTURES_FOR_SCALE = 256


@dataclass(frozen=True)
class TrainingSettings:
    """What a run does, apart from the backbone and the pictures.

    Attributes:
        mode: ``"img"`` or ``"fm"``.
        recipe: Every number.
        seed: Of the start, the order and the crops.
        workers: Processes that read pictures.
        max_pixels: Pictures with more are skipped.
    """

    mode: Mode
    recipe: Recipe
    seed: int = 0
    workers: int = 2
    max_pixels: int = MAX_PIXELS


@dataclass
class _Position:
    """The next batch to take."""

    epoch: int = 0
    batch: int = 0


def train(
    engine: Engine,
    paths: Sequence[str],
    out: Path,
    settings: TrainingSettings,
    *,
    resume: bool = False,
    advance: Callable[[int], None] = lambda _pictures: None,
    skip: Callable[[Skipped], None] = lambda _skipped: None,
    stop: Callable[[], bool] = lambda: False,
) -> Path | None:
    """Train an attention on pictures; the labels are the frozen classifier's own predictions.

    Args:
        engine: The engine with the frozen classifier.
        paths: The pictures.
        out: The run's folder: ``attention.safetensors``, ``log.csv``, ``losses.png``, and
            ``checkpoint.pt`` while it is not done.
        settings: Mode, recipe, seed.
        resume: Go on from the folder's checkpoint.
        advance: Called with the pictures done, after every batch.
        skip: Called with each picture that cannot be read, once.
        stop: Asked after every batch; True ends the run with a checkpoint.

    Returns:
        The attention file, or None if the run was stopped before its end.

    Raises:
        LcamError: No picture can be read, a loss that is no number, a checkpoint of another run.
    """
    settings = replace(settings, recipe=settings.recipe.fitted(len(paths)))
    recipe = settings.recipe
    fingerprint = _fingerprint(engine, paths, settings)
    rows = _start(engine, paths, settings).to(engine.device)
    optimisers = rows.optimisers(recipe)
    position, step = _Position(), 0
    if resume:
        position, step = _load_checkpoint(out / CHECKPOINT, rows, optimisers, fingerprint)
        advance(step * recipe.batch_size)
    steps_per_epoch = math.ceil(len(paths) / recipe.batch_size)
    read = position.epoch > 0
    log = TrainingLog(out / "log.csv", resume_from=step)
    saved = time.monotonic()

    def save(epoch: int, batch: int) -> None:
        nonlocal saved
        _save_checkpoint(out / CHECKPOINT, rows, optimisers, fingerprint, epoch, batch, step)
        saved = time.monotonic()

    try:
        for epoch in range(position.epoch, recipe.epochs):
            first = position.batch if epoch == position.epoch else 0
            order = np.random.default_rng([settings.seed, epoch]).permutation(len(paths))
            stream = stream_training(
                paths,
                engine.backbone.preprocess,
                recipe.batch_size,
                order=order.tolist(),
                seed=settings.seed,
                epoch=epoch,
                flip=recipe.flip,
                centre=recipe.alternate and epoch % 2 == 0,
                workers=settings.workers,
                start_batch=first,
                max_pixels=settings.max_pixels,
            )
            for number, batch in enumerate(stream, first):
                began = time.monotonic()
                if epoch == 0:
                    for skipped in batch.skipped:
                        skip(skipped)
                if batch.indices:
                    read = True
                    factor = _lr_factor(recipe, epoch, number / steps_per_epoch)
                    terms = _step(
                        engine, rows, optimisers, engine.pixels(batch.images), settings, factor
                    )
                    _check_finite(terms, step, [paths[i] for i in batch.indices])
                    log.write(
                        {
                            "epoch": epoch,
                            "step": step,
                            **terms,
                            "lr": factor * recipe.lr,
                            "images_per_second": len(batch.indices) / (time.monotonic() - began),
                        }
                    )
                step += 1
                advance(len(batch.indices) + len(batch.skipped))
                if stop():
                    save(epoch, number + 1)
                    return None
                if time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS:
                    save(epoch, number + 1)
            if not read:
                raise LcamError(
                    f"none of the {len(paths)} pictures could be read",
                    "give a folder of photographs",
                )
            if epoch + 1 == recipe.cycle_epochs(epoch).stop:
                rows.end_cycle()
                optimisers = rows.optimisers(recipe)
            save(epoch + 1, 0)
    finally:
        log.close()
    draw_losses(out / "log.csv", out / "losses.png")
    file = out / FILE_NAME
    save_attention(file, rows.fold(), _describe(engine, settings, len(paths)))
    (out / CHECKPOINT).unlink(missing_ok=True)
    return file


def _start(
    engine: Engine, paths: Sequence[str], settings: TrainingSettings
) -> FreeRows | SharedRows:
    recipe = settings.recipe
    if recipe.dropout:
        _activate_dropout(engine.backbone.network)
    torch.manual_seed(settings.seed)  # for dropout, the only chance inside a step
    K, R = engine.backbone.feature_shape[0], engine.backbone.num_classes
    if recipe.init == "random":
        W, b = random_rows(R, K, settings.seed)
    else:
        first = next(_some_pictures(engine, paths, settings, _PICTURES_FOR_CLASSIFIER_ROWS))
        W, b = classifier_rows(engine, first).cpu(), torch.zeros(R)
    if recipe.rows == "free":
        return FreeRows(W, b)
    some = _some_pictures(engine, paths, settings, _PICTURES_FOR_SCALE)
    return SharedRows(W, feature_scale(engine.forward(x).A for x in some).cpu())


def _some_pictures(
    engine: Engine, paths: Sequence[str], settings: TrainingSettings, count: int
) -> Iterator[Tensor]:
    """Batches of ``count`` pictures in all, chosen by the seed.

    Raises:
        LcamError: None of them can be read.
    """
    order = np.random.default_rng([settings.seed]).permutation(len(paths))[:count]
    stream = stream_batches(
        [paths[i] for i in order],
        engine.backbone.preprocess,
        min(count, engine.batch_size),
        workers=settings.workers,
        max_pixels=settings.max_pixels,
    )
    with contextlib.closing(stream):
        found = False
        for batch in stream:
            if batch.indices:
                found = True
                yield engine.pixels(batch.images)
    if not found:
        raise LcamError(
            f"none of {len(order)} pictures could be read, e.g. {paths[order[0]]}",
            "give a folder of photographs",
        )


def _step(
    engine: Engine,
    rows: FreeRows | SharedRows,
    optimisers: list[torch.optim.Optimizer],
    x: Tensor,
    settings: TrainingSettings,
    factor: float,
) -> dict[str, float]:
    for optimiser in optimisers:
        optimiser.zero_grad()
        for group in optimiser.param_groups:
            group["lr"] = factor * group.setdefault("initial_lr", group["lr"])
    terms = backward(engine, rows, x, settings.recipe, settings.mode)
    for optimiser in optimisers:
        optimiser.step()
    return {name: float(value) for name, value in terms.items()}


def _lr_factor(recipe: Recipe, epoch: int, share: float) -> float:
    """What the learning rate is multiplied by, when ``share`` of the epoch is done."""
    if recipe.decay is not None:
        return float(recipe.decay**epoch)
    cycle = recipe.cycle_epochs(epoch)
    return 0.5 * (1 + math.cos(math.pi * (epoch - cycle.start + share) / len(cycle)))


def _check_finite(terms: dict[str, float], step: int, paths: list[str]) -> None:
    if not all(math.isfinite(v) for v in terms.values()):
        named = ", ".join(f"{k}={v:g}" for k, v in terms.items())
        raise LcamError(
            f"the loss is no number at step {step} ({named}), pictures {paths[0]} … {paths[-1]}",
            "lower --lr, or use --precision fp32; the last checkpoint is kept (--resume)",
        )


def _activate_dropout(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.train()


def _describe(engine: Engine, settings: TrainingSettings, pictures: int) -> AttentionSettings:
    backbone = engine.backbone
    training = {
        "mode": settings.mode,
        "seed": settings.seed,
        "pictures": pictures,
        "precision": engine.hardware.precision,
        **settings.recipe.to_json(),
    }
    return AttentionSettings(backbone.identity, backbone.class_names, backbone.preprocess, training)


def _fingerprint(engine: Engine, paths: Sequence[str], settings: TrainingSettings) -> str:
    """What must be the same for a checkpoint to be continued."""
    described = _describe(engine, settings, len(paths))
    record = [
        described.training,
        vars(described.identity) | {"weights_file": ""},
        described.preprocess.to_json(),
        hashlib.sha256("\0".join(paths).encode("utf-8", "surrogateescape")).hexdigest(),
    ]
    return json.dumps(record, sort_keys=True)


def _save_checkpoint(
    path: Path,
    rows: nn.Module,
    optimisers: list[torch.optim.Optimizer],
    fingerprint: str,
    epoch: int,
    batch: int,
    step: int,
) -> None:
    """Write all that the rest of the run depends on, whole or not at all."""
    state = {
        "fingerprint": fingerprint,
        "epoch": epoch,
        "batch": batch,
        "step": step,
        "rng": torch.get_rng_state(),
        "rows": rows.state_dict(),
        "optimisers": [o.state_dict() for o in optimisers],
    }
    temporary = path.with_name(path.name + ".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)  # noqa: PTH105 (the atomic one by name)


def _load_checkpoint(
    path: Path, rows: nn.Module, optimisers: list[torch.optim.Optimizer], fingerprint: str
) -> tuple[_Position, int]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise LcamError(f"nothing to resume: no {path}", "leave --resume out") from None
    except Exception as error:  # a damaged file can raise anything
        raise LcamError(f"cannot read {path}: {error}", "start anew with --overwrite") from None
    if state.get("fingerprint") != fingerprint:
        raise LcamError(
            f"{path} belongs to a run with other settings or pictures",
            "give the options the run was started with, or start anew with --overwrite",
        )
    torch.set_rng_state(state["rng"])
    rows.load_state_dict(state["rows"])
    for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(saved)
    return _Position(state["epoch"], state["batch"]), state["step"]
