"""The training loop: pictures in, an attention file out, resumable at any step."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lcam_cli.engine.engine import Engine, no_gradients
from lcam_cli.engine.stages import stage_ends
from lcam_cli.errors import LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.images.read import MAX_PIXELS
from lcam_cli.images.stream import Batch, no_pictures, stream_batches, stream_training
from lcam_cli.methods.attention_file import FILE_NAME, AttentionSettings, save_attention
from lcam_cli.methods.explain import no_numbers, not_numbers
from lcam_cli.methods.registry import advice_without_gradients
from lcam_cli.scale.gradient_sync import ALONE, GradientSync
from lcam_cli.scale.rank_info import RankInfo
from lcam_cli.training import amg, bounded_logit, tame, trained_head
from lcam_cli.training.checkpoint import (
    CHECKPOINT,
    Position,
    load_checkpoint,
    save_checkpoint,
    sync_folder,
)
from lcam_cli.training.learned import LearnedModule
from lcam_cli.training.log import NoLog, TrainingLog, draw_losses, read_log
from lcam_cli.training.recipes import OWN_RECIPES, Mode, Recipe
from lcam_cli.training.rows import (
    FreeRows,
    SharedRows,
    classifier_rows,
    feature_scale,
    random_rows,
)
from lcam_cli.training.step import NotNumbersError, take_step

_Trained = FreeRows | SharedRows | LearnedModule

FAILED_BATCH = "failed_batch.txt"
_SECONDS_BETWEEN_CHECKPOINTS = 120.0
_PICTURES_FOR_CLASSIFIER_ROWS = 4
_PICTURES_FOR_SCALE = 256


@dataclass(frozen=True)
class TrainingSettings:
    """What a run does, apart from the backbone and the pictures.

    Attributes:
        mode: What is learned: L-CAM's ``"img"`` and ``"fm"``, or another of ``recipes.Mode``.
        recipe: Every number.
        layers: Of mode ``"tame"``: the layers, in the order of the network, the target layer last;
            empty for the ends of the last three stages.
        labels: Of the modes that train the classifier's head: the true classes of the pictures,
            in their order; None for the frozen classifier's predictions, as in all other modes.
        seed: Of the start, the order and the crops.
        workers: Processes that read pictures.
        max_pixels: Pictures with more are skipped.
    """

    mode: Mode
    recipe: Recipe
    layers: tuple[str, ...] = ()
    labels: tuple[int, ...] | None = None
    seed: int = 0
    workers: int = 2
    max_pixels: int = MAX_PIXELS


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
    sync: GradientSync = ALONE,
) -> Path | None:
    """Train an attention on pictures, by default with the frozen classifier's own predictions.

    Args:
        engine: The engine with the frozen classifier.
        paths: The pictures.
        out: The run's folder: ``attention.safetensors``, ``log.csv``, ``losses.png``, and
            ``checkpoint.pt`` while it is not done.
        settings: Mode, recipe, seed.
        resume: Go on from the folder's checkpoint.
        advance: Called with the pictures done, after every batch.
        skip: Called with each picture that cannot be read, and each whose scores are no numbers,
            once.
        stop: Asked after every batch; True ends the run with a checkpoint.
        sync: With the other ranks that train together. Each takes its share of every batch;
            the first one alone writes to the folder.

    Returns:
        The attention file, or None if the run was stopped before its end.

    Raises:
        LcamError: No picture can be read or has scores that are numbers, a loss that is no number,
            a checkpoint of another run, a disk that is full. The last checkpoint is kept.
    """
    try:
        return _train(engine, paths, out, settings, resume, advance, skip, stop, sync)
    except OSError as error:
        raise LcamError(
            f"cannot write to {out}: {error.strerror or error}",
            "make room there, then go on with the same command and --resume",
        ) from error


def _train(
    engine: Engine,
    paths: Sequence[str],
    out: Path,
    settings: TrainingSettings,
    resume: bool,
    advance: Callable[[int], None],
    skip: Callable[[Skipped], None],
    stop: Callable[[], bool],
    sync: GradientSync,
) -> Path | None:
    ranks = sync.ranks
    share = share_of_batches(settings, ranks.info)
    _check_gradients(engine, settings)
    settings = _fitted(settings, engine, len(paths))
    recipe = settings.recipe
    fingerprint = _fingerprint(engine, paths, settings)
    rows = _start(engine, paths, settings).to(engine.device)
    sync.same_start(rows)
    optimisers = rows.optimisers(recipe)
    position = (
        load_checkpoint(out / CHECKPOINT, rows, optimisers, fingerprint) if resume else Position()
    )
    steps_per_epoch = math.ceil(len(paths) / recipe.batch_size)
    step = position.step
    if ranks.is_first:
        advance(min(step * recipe.batch_size, recipe.epochs * len(paths)))
    read = ranks.share(lambda: bool(step and read_log(out / "log.csv")))
    # The first rank alone tells: another epoch's order may give a picture to another rank.
    without_numbers = _WithoutNumbers(not_numbers(engine), skip if ranks.is_first else _nobody)
    log = TrainingLog(out / "log.csv", resume_from=step) if ranks.is_first else NoLog()

    def save(epoch: int, batch: int) -> float:
        if ranks.is_first:
            log.sync()  # a checkpoint never knows of steps that the log does not
            at = Position(epoch, batch, step)
            save_checkpoint(out / CHECKPOINT, rows, optimisers, fingerprint, at)
        return time.monotonic()

    try:
        saved = save(position.epoch, position.batch)
        for epoch in range(position.epoch, recipe.epochs):
            first = position.batch if epoch == position.epoch else 0
            order = np.random.default_rng([settings.seed, epoch]).permutation(len(paths))
            for number, batch in _batches(engine, paths, settings, share, order, epoch, first):
                _each(batch.skipped if epoch in (0, position.epoch) else (), skip)
                in_step = _in_step(paths, order, number, batch, settings, ranks.info)
                terms, lost = _learn(
                    engine,
                    rows,
                    optimisers,
                    batch,
                    settings,
                    _lr_factor(recipe, epoch, number / steps_per_epoch),
                    sync,
                    step,
                    in_step,
                    out,
                )
                read = read or bool(terms)
                without_numbers.add([paths[i] for i in sync.all_of(lost)], tell=read)
                if terms:
                    log.write({"epoch": epoch, "step": step, **terms})
                step += 1
                advance(len(batch.indices) + len(batch.skipped))
                if sync.any(stop()):
                    saved = save(epoch, number + 1)
                    return None
                if time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS:
                    saved = save(epoch, number + 1)
            if not read:
                raise _nothing_learned(engine, paths, bool(without_numbers))
            if epoch + 1 == recipe.cycle_epochs(epoch).stop:
                rows.end_cycle()
                optimisers = rows.optimisers(recipe)
            saved = save(epoch + 1, 0)
    finally:
        log.close()
    if ranks.is_first:
        _write_results(out, rows, _describe(engine, settings, len(paths)))
    return out / FILE_NAME


def _check_gradients(engine: Engine, settings: TrainingSettings) -> None:
    """Check that the loss can reach what is trained.

    Raises:
        LcamError: The network has no gradients on that way.
    """
    backbone, mode = engine.backbone, settings.mode
    if mode in ("bla-head", "bla-t-head"):  # nothing of the network is behind what they train
        return
    who = f"training in mode {mode}"
    instead = f"explain it without training; {advice_without_gradients(backbone)}"
    if not backbone.differentiable:
        raise no_gradients(backbone, who, instead)
    if mode in ("img", "tame", "amg") and backbone.picture_gradients_end:
        raise no_gradients(
            backbone, who, f"--mode fm needs them only behind the layer; or {instead}", picture=True
        )


def _fitted(settings: TrainingSettings, engine: Engine, pictures: int) -> TrainingSettings:
    """The settings for so many pictures and this network."""
    settings = replace(settings, recipe=settings.recipe.fitted(pictures))
    if settings.mode == "tame" and not settings.layers:
        ends = list(stage_ends(engine.backbone))
        settings = replace(settings, layers=tuple(ends[-tame.DEFAULT_LAYERS :]))
    return settings


def _in_step(
    paths: Sequence[str],
    order: NDArray[np.int64],
    number: int,
    batch: Batch,
    settings: TrainingSettings,
    rank_info: RankInfo,
) -> list[str]:
    """The pictures of a step, those of all ranks."""
    size = settings.recipe.batch_size
    here = order[number * size :][:size] if rank_info.size > 1 else batch.indices
    return [paths[i] for i in here]


def _each(skipped: Sequence[Skipped], skip: Callable[[Skipped], None]) -> None:
    for one in skipped:
        skip(one)


def _nobody(_skipped: Skipped) -> None:
    """Tell nobody."""


class _WithoutNumbers:
    """The pictures whose scores are no numbers, each told of once: when there are others too.

    A picture may be one in the crop of one epoch and not in that of another.
    """

    def __init__(self, why: str, skip: Callable[[Skipped], None]) -> None:
        self._why = why
        self._skip = skip
        self._met: dict[str, None] = {}
        self._untold: list[str] = []

    def __len__(self) -> int:
        return len(self._met)

    def add(self, paths: Sequence[str], *, tell: bool) -> None:
        """Note some, and tell of those noted so far if it is time to."""
        self._untold += [path for path in paths if path not in self._met]
        self._met |= dict.fromkeys(paths)
        if tell:
            _each([Skipped(path, self._why) for path in self._untold], self._skip)
            self._untold.clear()


def _nothing_learned(engine: Engine, paths: Sequence[str], lost: bool) -> LcamError:
    """Why an epoch had no picture to learn of: scores that are no numbers, or no picture at all."""
    if lost:
        return no_numbers(len(paths), engine.hardware.precision)
    return LcamError(
        f"none of the {len(paths)} pictures could be read", "give a folder of photographs"
    )


def _learn(
    engine: Engine,
    rows: _Trained,
    optimisers: Sequence[torch.optim.Optimizer],
    batch: Batch,
    settings: TrainingSettings,
    lr_factor: float,
    sync: GradientSync,
    step: int,
    paths: list[str],
    out: Path,
) -> tuple[dict[str, float], list[int]]:
    """Take a step with the pictures of a batch that have scores.

    Returns:
        What the log says of it, nothing where there was no such picture; and the pictures that
        are left out because their scores are no numbers.
    """
    began = time.monotonic()
    recipe, x, indices = settings.recipe, engine.pixels(batch.images), batch.indices
    lost: list[int] = []
    while True:
        labels = _labels(engine, settings, indices)
        try:
            count, terms = take_step(
                engine, rows, optimisers, x, recipe, settings.mode, lr_factor, labels, sync
            )
            break
        except NotNumbersError as error:
            finite = error.finite.tolist()
            lost += itertools.compress(indices, (not one for one in finite))
            indices, x = list(itertools.compress(indices, finite)), x[error.finite]
    if not count:
        return {}, lost
    _check_finite(engine, rows, terms, step, paths, out)
    rate = count / (time.monotonic() - began)
    return {**terms, "lr": lr_factor * recipe.lr, "images_per_second": rate}, lost


def share_of_batches(settings: TrainingSettings, rank_info: RankInfo) -> range:
    """Return the places in every batch whose pictures this rank takes.

    Raises:
        LcamError: The ranks together would not do what one process does.
    """
    size, batch = rank_info.size, settings.recipe.batch_size
    if size == 1:
        return range(batch)
    why = {
        "tame": "its batch norm would see a rank's part of the batch alone",
        "l2x-f": "the positions that it draws would not be those of one process",
    }.get(settings.mode, "")
    if settings.recipe.all_pairs:
        why = f"recipe {settings.recipe.name} pairs every picture of a batch with every other"
    if settings.recipe.dropout:
        why = "its dropout would not be that of one process"
    if why:
        raise LcamError(
            f"mode {settings.mode} is not trained by {size} ranks: {why}", "train it in one process"
        )
    if batch < size:
        raise LcamError(
            f"a batch of {batch} pictures is less than one for each of {size} ranks",
            "use a larger --batch-size, or fewer ranks",
        )
    return range(rank_info.rank * batch // size, (rank_info.rank + 1) * batch // size)


def _batches(
    engine: Engine,
    paths: Sequence[str],
    settings: TrainingSettings,
    share: range,
    order: NDArray[np.int64],
    epoch: int,
    first: int,
) -> Iterator[tuple[int, Batch]]:
    """Yield this rank's share of an epoch's batches, from number ``first`` on, with their numbers.

    The last may have no picture for it.
    """
    recipe, preprocess = settings.recipe, engine.backbone.preprocess
    stream = stream_training(
        paths,
        preprocess,
        len(share),
        order=_shared_order(order.tolist(), recipe.batch_size, share),
        seed=settings.seed,
        epoch=epoch,
        flip=recipe.flip,
        centre=recipe.alternate and epoch % 2 == 0,
        workers=settings.workers,
        start_batch=first,
        max_pixels=settings.max_pixels,
    )
    with contextlib.closing(stream):
        for number in range(first, math.ceil(len(order) / recipe.batch_size)):
            yield number, next(stream, None) or no_pictures(preprocess)


def _shared_order(order: list[int], batch: int, share: range) -> list[int]:
    """What a rank takes of each batch, one behind the other; only the last may be short."""
    batches = (order[at : at + batch] for at in range(0, len(order), batch))
    return [index for one in batches for index in one[share.start : share.stop]]


def _write_results(out: Path, rows: _Trained, described: AttentionSettings) -> None:
    """Write what a finished run leaves; the checkpoint goes when the attention is there."""
    draw_losses(out / "log.csv", out / "losses.png")
    file = out / FILE_NAME
    save_attention(file, rows.fold(), described)
    sync_folder(out)
    (out / CHECKPOINT).unlink(missing_ok=True)


def _start(engine: Engine, paths: Sequence[str], settings: TrainingSettings) -> _Trained:
    recipe = settings.recipe
    if recipe.dropout:
        _activate_dropout(engine.backbone.network)
    torch.manual_seed(settings.seed)  # for chance inside a step: dropout, sampling
    if settings.mode in OWN_RECIPES:
        return _start_module(engine, paths, settings)
    K, R = engine.backbone.feature_shape[0], engine.backbone.num_classes
    if recipe.init == "random":
        W, b = random_rows(R, K, settings.seed)
    else:
        first = next(_some_pictures(engine, paths, settings, _PICTURES_FOR_CLASSIFIER_ROWS))
        W, b = classifier_rows(engine, first).cpu(), torch.zeros(R)
    if recipe.rows == "free":
        return FreeRows(W, b, sparse=not (recipe.momentum or recipe.weight_decay))
    some = _some_pictures(engine, paths, settings, _PICTURES_FOR_SCALE)
    return SharedRows(W, feature_scale(engine.forward(x).A for x in some).cpu())


def _start_module(
    engine: Engine, paths: Sequence[str], settings: TrainingSettings
) -> LearnedModule:
    if settings.mode == "amg":
        return amg.GatesModule(engine.backbone.feature_shape[0], settings.seed)
    some = _some_pictures(engine, paths, settings, _PICTURES_FOR_SCALE)
    if settings.mode == "tame":
        return _start_tame(engine, paths, settings)
    A = (engine.forward(x).A for x in some)
    if settings.mode in ("bla", "l2x-f"):
        return bounded_logit.start(settings.mode, A, settings.seed)
    if settings.mode in ("bla-head", "bla-t-head"):
        return trained_head.start(settings.mode, engine.backbone, A, settings.seed)
    raise AssertionError(settings.mode)


def _start_tame(
    engine: Engine, paths: Sequence[str], settings: TrainingSettings
) -> tame.TameModule:
    layers = settings.layers
    engine.backbone.shapes_of(layers)  # refuses what gives no feature maps
    first = next(_some_pictures(engine, paths, settings, _PICTURES_FOR_CLASSIFIER_ROWS))
    W0 = classifier_rows(engine, first).cpu()
    some = _some_pictures(engine, paths, settings, _PICTURES_FOR_SCALE)
    scales = tame.feature_scales(engine.outputs_of(engine.forward(x), layers) for x in some)
    return tame.TameModule(layers, [s.cpu() for s in scales], W0, settings.seed)


def _labels(engine: Engine, settings: TrainingSettings, indices: Sequence[int]) -> Tensor | None:
    """The true classes (B,) of some pictures, where they are given."""
    if settings.labels is None:
        return None
    return torch.tensor([settings.labels[i] for i in indices], device=engine.device)


def _some_pictures(
    engine: Engine, paths: Sequence[str], settings: TrainingSettings, count: int
) -> Iterator[Tensor]:
    """Batches of ``count`` pictures in all, chosen by the seed; fewer where some are left out.

    Raises:
        LcamError: None of them can be read, or has scores that are numbers.
    """
    order = np.random.default_rng([settings.seed]).permutation(len(paths))
    lost = False
    # The first so many alone, unless none of them is of use.
    for first in range(0, len(order), count):
        stream = stream_batches(
            [paths[i] for i in order[first : first + count]],
            engine.backbone.preprocess,
            min(count, engine.batch_size),
            workers=settings.workers,
            max_pixels=settings.max_pixels,
        )
        found = False
        with contextlib.closing(stream):
            for batch in stream:
                if not batch.indices:
                    continue
                x = engine.pixels(batch.images)
                finite = _finite(engine, x)
                lost = lost or not finite.all()
                if finite.any():
                    found = True
                    yield x if finite.all() else x[finite]
        if found:
            return
    raise _nothing_learned(engine, paths, lost)


def _finite(engine: Engine, x: Tensor) -> Tensor:
    """Which pictures have scores that are numbers, (B,) bool; chance stands as it did."""
    with torch.random.fork_rng([engine.device] if engine.device.type == "cuda" else []):
        return engine.forward(x).finite


def _lr_factor(recipe: Recipe, epoch: int, share: float) -> float:
    """What the learning rate is multiplied by, when ``share`` of the epoch is done."""
    if recipe.decay is not None:
        return float(recipe.decay**epoch)
    cycle = recipe.cycle_epochs(epoch)
    return 0.5 * (1 + math.cos(math.pi * (epoch - cycle.start + share) / len(cycle)))


def _check_finite(
    engine: Engine,
    rows: nn.Module,
    terms: dict[str, float],
    step: int,
    paths: list[str],
    out: Path,
) -> None:
    """Stop where a step leaves no numbers behind; the checkpoint stays as it was before.

    Raises:
        LcamError: The step, its pictures (all of them are listed in a file), and what may help.
    """
    if all(map(math.isfinite, terms.values())) and all(map(_is_finite, rows.parameters())):
        return
    listed = out / FAILED_BATCH
    listed.write_bytes(b"".join(os.fsencode(path) + b"\n" for path in paths))
    named = ", ".join(f"{k}={v:g}" for k, v in terms.items())
    raise LcamError(
        f"the loss is no number at step {step} ({named}) or makes weights that are none; its "
        f"{len(paths)} pictures, {paths[0]} … {paths[-1]}, are listed in {listed}",
        "the last good checkpoint is kept: "
        + (
            "start anew with a lower --lr and --overwrite, or without those pictures"
            if engine.hardware.precision == "fp32"
            else "go on from it with --resume --precision fp32"
        ),
    )


def _is_finite(parameter: Tensor) -> bool:
    """Whether the last step's gradients are numbers; looks at the rows they are of alone."""
    gradient = parameter.grad
    if gradient is None:
        return True
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    return bool(values.isfinite().all())


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
    if settings.labels is not None:
        text = ",".join(map(str, settings.labels))
        training["labels"] = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    if settings.layers:
        training["layers"] = list(settings.layers)
    return AttentionSettings(backbone.identity, backbone.class_names, backbone.preprocess, training)


def _fingerprint(engine: Engine, paths: Sequence[str], settings: TrainingSettings) -> str:
    """What must be the same for a checkpoint to be continued."""
    described = _describe(engine, settings, len(paths))
    # Another precision is what a run may need to go on with.
    training = {k: v for k, v in described.training.items() if k != "precision"}
    identity = vars(described.identity) | {"weights_file": ""}
    for what in ("output", "probabilities"):  # 0.1.0 had neither: its runs go on
        if not identity[what]:
            del identity[what]
    record = [
        training,
        identity,
        described.preprocess.to_json(),
        hashlib.sha256("\0".join(paths).encode("utf-8", "surrogateescape")).hexdigest(),
    ]
    return json.dumps(record, sort_keys=True)
