"""The training loop: images in, an attention file out, resumable at any step."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.images.stream import Batch
from lcam_cli.methods.attention_file import FILE_NAME
from lcam_cli.methods.learned import LCAM_MODES, Learned
from lcam_cli.methods.trained import LCAM, method_of_learned
from lcam_cli.scale.gradient_sync import SINGLE_PROCESS, GradientSync
from lcam_cli.training.batches import TrainingBatches, share_of_batches
from lcam_cli.training.candidates import LEARNED, START, Choice, Choose
from lcam_cli.training.checkpoint import CHECKPOINT, Position, load_checkpoint, save_checkpoint
from lcam_cli.training.learnable import start_checked
from lcam_cli.training.log import LOG, NoLog, TrainingLog, read_log
from lcam_cli.training.modes import (
    caller_random_state,
    check_gradients,
    fit_settings,
    set_dropout,
)
from lcam_cli.training.nonfinite import (
    FAILED_BATCH,
    NonFinitePictures,
    all_finite,
    failed_step,
    nothing_to_learn_from,
)
from lcam_cli.training.results import write_results
from lcam_cli.training.settings import TrainingSettings, attention_settings, fingerprint
from lcam_cli.training.start import StartingData
from lcam_cli.training.step import NonFiniteScoresError, Trainer

__all__ = [
    "FAILED_BATCH",
    "Callbacks",
    "TrainingRun",
    "TrainingSettings",
    "share_of_batches",
    "train",
]

_SECONDS_BETWEEN_CHECKPOINTS = 120.0


@dataclass(frozen=True)
class Callbacks:
    """What a run calls on its way.

    Attributes:
        advance: With the images done, after every batch.
        skip: With each image that is left out, once.
        stop: After every batch; True ends the run with a checkpoint.
        step: With the epoch, from 0, and the loss, after every step, by the first rank alone.
        choose: At the end, by the first rank alone: whether the start or what was learned goes
            into the attention file. None for what was learned, whatever it is worth.
    """

    advance: Callable[[int], None]
    skip: Callable[[Skipped], None]
    stop: Callable[[], bool]
    step: Callable[[int, float], None]
    choose: Choose | None = None


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
    step: Callable[[int, float], None] = lambda _epoch, _loss: None,
    choose: Choose | None = None,
    sync: GradientSync = SINGLE_PROCESS,
) -> Path | None:
    """Train an attention on images, by default with the frozen classifier's own predictions.

    Args:
        engine: The engine with the frozen classifier.
        paths: The images; all of them are trained on, whatever the recipe keeps aside.
        out: The run's folder: ``attention.safetensors``, ``log.csv``, ``losses.png``, with
            ``choose`` ``selection.json``, and ``checkpoint.pt`` while it is not done.
        settings: Mode, recipe, seed.
        resume: Go on from the folder's checkpoint.
        advance: Called with the images done, after every batch.
        skip: Called with each image that cannot be read, and each whose scores are no numbers,
            once.
        stop: Asked after every batch; True ends the run with a checkpoint.
        step: Called with the epoch, from 0, and the loss after every step, by the first rank alone.
        choose: Chooses at the end what goes into the attention file: where the run started, or
            what it learned (``training.candidates``). None for what it learned.
        sync: With the other ranks that train together. Each takes its share of every batch;
            the first one alone writes to the folder.

    Returns:
        The attention file, or None if the run was stopped before its end.

    Raises:
        LcamError: No image can be read or has scores that are numbers, a loss that is no number,
            a checkpoint of another run, a disk that is full. The last checkpoint is kept.
    """
    callbacks = Callbacks(advance, skip, stop, step, choose)
    try:
        with caller_random_state():
            return TrainingRun(engine, paths, out, settings, callbacks, sync).run(resume=resume)
    except OSError as error:
        raise LcamError(
            f"cannot write to {out}: {error.strerror or error}",
            "free some space, then continue with the same command and --resume",
        ) from error


class TrainingRun:
    """A run: what is trained, how far it has come, and its checkpoints and log.

    Args:
        engine: The engine with the frozen classifier.
        paths: The images.
        out: The run's folder.
        settings: Mode, recipe, seed.
        callbacks: What is called on the way.
        sync: With the other ranks that train together.

    Raises:
        LcamError: The mode does not go with the network or with several ranks, or no image can
            be read or has scores that are numbers.
    """

    def __init__(
        self,
        engine: Engine,
        paths: Sequence[str],
        out: Path,
        settings: TrainingSettings,
        callbacks: Callbacks,
        sync: GradientSync,
    ) -> None:
        check_gradients(engine.backbone, settings.mode)
        settings = fit_settings(settings, engine.backbone, len(paths))
        self._engine = engine
        self._paths = paths
        self._out = out
        self._settings = settings
        self._callbacks = callbacks
        self._sync = sync
        self._is_first = sync.ranks.is_first
        self._batches = TrainingBatches(
            paths, engine.backbone.preprocess, settings, sync.ranks.info
        )
        self._fingerprint = fingerprint(engine, paths, settings)
        module = start_checked(StartingData(engine, paths, settings))
        chooses = callbacks.choose is not None and self._is_first
        # On the CPU, and in no checkpoint: a run that goes on starts from the same images first.
        self._start = module.fold_start() if chooses else None
        sync.broadcast(module.to(engine.device))
        self._trainer = Trainer(engine, module, settings.recipe, settings.mode, sync)
        self._position = Position()
        # The first rank alone reports: another epoch's order may give an image to another rank.
        report = callbacks.skip if self._is_first else _ignore
        self._nonfinite = NonFinitePictures(engine, report)
        self._has_learned = False
        self._log: TrainingLog | NoLog = NoLog()
        self._saved_at = 0.0

    def run(self, *, resume: bool) -> Path | None:
        """Train to the end, or until it is stopped: see :func:`train`."""
        if resume:
            self._load()
        position, recipe = self._position, self._settings.recipe
        if self._is_first:
            done = min(position.step * recipe.batch_size, recipe.epochs * len(self._paths))
            self._callbacks.advance(done)
        self._has_learned = self._sync.ranks.share(
            lambda: bool(position.step and read_log(self._out / LOG))
        )
        if self._is_first:
            self._log = TrainingLog(self._out / LOG, resume_from=position.step)
        with contextlib.closing(self._log):
            self._save()
            first_epoch = position.epoch
            while position.epoch < recipe.epochs:
                # Later epochs meet the same unreadable images again.
                new = position.epoch in (0, first_epoch)
                if not self._train_epoch(self._callbacks.skip if new else _ignore):
                    return None
        return self._finish() if self._is_first else self._out / FILE_NAME

    def _finish(self) -> Path | None:
        """Write the results; None where the run is stopped before it has chosen."""
        described = attention_settings(self._engine, self._settings, len(self._paths))
        learned, selection = self._trainer.module.fold(), None
        if self._start is not None:
            candidates = {START: self._start, LEARNED: learned}
            choice = self._choose(candidates, described.training)
            if choice is None:
                return None
            learned, selection = candidates[choice.name], choice.record
        return write_results(self._out, learned, described, self._settings.recipe, selection)

    def _choose(self, candidates: Mapping[str, Learned], training: dict[str, Any]) -> Choice | None:
        """Ask which of the two is to be written."""
        assert self._callbacks.choose is not None
        set_dropout(self._engine.backbone.network, active=False)  # recipe ``reference`` trains so
        mode = self._settings.mode
        name = f"{LCAM}-{mode}" if mode in LCAM_MODES else mode
        params = {"training": training}
        return self._callbacks.choose(
            {key: method_of_learned(one, name, params) for key, one in candidates.items()}
        )

    def _train_epoch(self, skip: Callable[[Skipped], None]) -> bool:
        """Train on what is left of an epoch; return False where the run is stopped."""
        position = self._position
        for number, batch in self._batches.of_epoch(position.epoch, position.batch):
            for one in batch.skipped:
                skip(one)
            self._learn(number, batch)
            position.batch, position.step = number + 1, position.step + 1
            self._callbacks.advance(len(batch.indices) + len(batch.skipped))
            stopped = self._sync.any(self._callbacks.stop())
            if stopped or time.monotonic() - self._saved_at > _SECONDS_BETWEEN_CHECKPOINTS:
                self._save()
            if stopped:
                return False
        self._end_epoch()
        return True

    def _end_epoch(self) -> None:
        """Go on to the next epoch, and save.

        Raises:
            LcamError: No image was of use in this one.
        """
        if not self._has_learned:
            raise nothing_to_learn_from(self._engine, len(self._paths), bool(self._nonfinite))
        position = self._position
        position.epoch, position.batch = position.epoch + 1, 0
        self._save()

    def _learn(self, number: int, batch: Batch) -> None:
        """Take a step with a batch, and write what comes of it to the log."""
        began, position = time.monotonic(), self._position
        share = number / len(self._batches)
        lr_factor = self._settings.recipe.lr_factor(position.epoch, share)
        count, terms, nonfinite = self._step(batch, lr_factor)
        if count:
            self._check(number, batch, terms)
            self._has_learned = True
        self._nonfinite.add([self._paths[i] for i in self._sync.gather(nonfinite)])
        if self._has_learned:
            self._nonfinite.report()
        if count:
            rate = count / (time.monotonic() - began)
            lr = lr_factor * self._settings.recipe.lr
            at = {"epoch": position.epoch, "step": position.step}
            self._log.write({**at, **terms, "lr": lr, "images_per_second": rate})
            if self._is_first:
                self._callbacks.step(position.epoch, terms["loss"])

    def _step(self, batch: Batch, lr_factor: float) -> tuple[int, dict[str, float], list[int]]:
        """Take a step with the images of a batch whose scores are numbers.

        Returns:
            How many all ranks have, their loss and its terms, and which images are left out.
        """
        x, indices = self._engine.pixels(batch.images), batch.indices
        nonfinite: list[int] = []
        while True:
            labels = self._labels(indices)
            draws = self._batches.draws(self._position.epoch, indices)
            try:
                return *self._trainer.step(x, lr_factor, labels, draws), nonfinite
            except NonFiniteScoresError as error:
                finite = error.finite.tolist()
                nonfinite += itertools.compress(indices, (not one for one in finite))
                indices, x = list(itertools.compress(indices, finite)), x[error.finite]

    def _labels(self, indices: Sequence[int]) -> Tensor | None:
        """The true classes (B,) of some images, where they are given."""
        labels = self._settings.labels
        if labels is None:
            return None
        return torch.tensor([labels[i] for i in indices], device=self._engine.device)

    def _check(self, number: int, batch: Batch, terms: dict[str, float]) -> None:
        """Stop where a step leaves no numbers behind; the checkpoint stays as it was before.

        Raises:
            LcamError: The step, its images (all of them are listed in a file), and what may help.
        """
        if not all_finite(terms, self._trainer.module):
            position, precision = self._position, self._engine.hardware.precision
            pictures = self._batches.pictures_of(position.epoch, number, batch)
            raise failed_step(position.step, terms, pictures, self._out, precision)

    def _save(self) -> None:
        if self._is_first:
            self._log.sync()  # a checkpoint never knows of steps that the log does not
            trainer, file = self._trainer, self._out / CHECKPOINT
            save_checkpoint(
                file, trainer.module, trainer.optimisers, self._fingerprint, self._position
            )
        self._saved_at = time.monotonic()

    def _load(self) -> None:
        trainer, file = self._trainer, self._out / CHECKPOINT
        self._position = load_checkpoint(
            file, trainer.module, trainer.optimisers, self._fingerprint
        )


def _ignore(_skipped: Skipped) -> None:
    """Report nothing."""
