"""Scoring the maps of a file: what the classifier still sees through them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.errors import BadImageError, LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.images.read import MAX_PIXELS
from lcam_cli.images.stream import Batch, stream_batches
from lcam_cli.maps.hdf5.reader import MapsFile
from lcam_cli.maps.record import Floats, MapBatch
from lcam_cli.measures.accuracy import Accuracy, best_classes
from lcam_cli.measures.measure import Kept, MapScores, Quantity
from lcam_cli.measures.score import Scores
from lcam_cli.measures.scored import ScoredBatch
from lcam_cli.measures.scoring import score_maps
from lcam_cli.measures.summary import Summary
from lcam_cli.measures.task import Task
from lcam_cli.measures.view import BatchView, FailedAgain, MapView
from lcam_cli.methods.base import Method, flat_maps
from lcam_cli.methods.explain import no_numbers, not_numbers, pictures_at_once
from lcam_cli.methods.flat import named_for_flat, why_flat

_NOT_MASKED = "the classifier's scores are not finite on the part of this image that its map keeps"


@dataclass
class MethodScore:
    """What the measures say about one set of maps.

    Attributes:
        name: The method.
        scores: What the measures say.
        mean_saliency: Mean of V over all maps, in [0, 1].
        images_per_second: Maps scored a second.
        undefined: By measure, how many of the maps it is not defined for.
        maps: How many there are.
        flat_maps: How many of them have one value everywhere.
        why_flat: Why the first of those are, in words; empty where that is not known.
    """

    name: str
    scores: Scores
    mean_saliency: float
    images_per_second: float
    undefined: Mapping[str, int] = field(default_factory=dict)
    maps: int = 0
    flat_maps: int = 0
    why_flat: str = ""


@dataclass
class Evaluation:
    """The outcome of :func:`evaluate`.

    Attributes:
        scores: The file's maps, and the floor if it was asked for.
        images: Images scored, each with all its rows.
        skipped: Images that could not be read again, or whose scores are no numbers.
        accuracy: The classifier's top-1 and top-5 where labels were given.
    """

    scores: list[MethodScore] = field(default_factory=list)
    images: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    accuracy: Accuracy | None = None


def evaluate(
    engine: Engine,
    maps: MapsFile,
    task: Task,
    *,
    images: Path | None = None,
    method: Method | None = None,
    floor: Method | None = None,
    labels: Mapping[str, int] | None = None,
    seed: int = 0,
    workers: int = 2,
    max_pixels: int = MAX_PIXELS,
    advance: Callable[[int], None] = lambda _rows: None,
    skip: Callable[[Skipped], None] = lambda _skipped: None,
    show: Sequence[Callable[[ScoredBatch], None]] = (),
    stop: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Score a file's maps.

    The classifier sees each image once whole, and once for each change by its map that a measure
    asks for.

    Args:
        engine: The engine with the classifier that the maps explain.
        maps: The maps.
        task: What is measured; its paths are the names of the maps' rows.
        images: The folder of the images, if they have moved.
        method: Who made the maps, where a measure has it explain again; else None.
        floor: A method to score beside the maps, on the same images.
        labels: True classes by row path, for the classifier's accuracy.
        seed: Of the bootstrap intervals.
        workers: Processes that read images.
        max_pixels: Images with more are skipped.
        advance: Called with the rows done, after every batch.
        skip: Called with each image that cannot be read, or whose scores are no numbers.
        show: Each is called with every batch of images, their maps, scores and numbers.
        stop: Asked after every batch; True ends the run with what has been scored, if anything.

    Raises:
        LcamError: The file's maps or classes do not fit the classifier, or no image can be read
            or has scores that are numbers.
    """
    check_fits(engine, maps)
    paths, outside = resolve(maps, task.paths, images)
    run = _Run(engine, maps, task, method, floor, labels, seed, show)
    size = run.batch_size
    outcome = run.outcome
    unreported = set(paths)
    # Where no image has numbers for scores, that is said once, and not of each.
    without_numbers: list[Skipped] = []
    stream = stream_batches(
        paths,
        engine.backbone.preprocess,
        size,
        workers=workers,
        max_pixels=max_pixels,
    )
    stopped = False
    for number, batch in enumerate(stream):
        first = number * size
        last = min(first + size, len(paths))
        for skipped in batch.skipped:
            reason = outside.get(skipped.path, skipped.reason)
            named = Skipped(skipped.path.removesuffix("\0"), reason)
            if skipped.path in unreported:  # it has a row for each of its classes
                unreported.remove(skipped.path)
                outcome.skipped.append(named)
                skip(named)
        if batch.indices:
            for row, reason in run.score(batch, range(first, last)):
                if paths[row] in unreported:
                    unreported.remove(paths[row])
                    without_numbers.append(Skipped(paths[row], reason))
        if run.images:
            for named in without_numbers:
                outcome.skipped.append(named)
                skip(named)
            without_numbers.clear()
        advance(last - first)
        stopped = stop()
        if stopped:
            break
    outcome.images = run.images
    if stopped and not outcome.images:
        return outcome
    if without_numbers:
        raise no_numbers(len(without_numbers), engine.hardware.precision)
    if not outcome.images:
        raise LcamError(
            f"none of the {len(paths)} images of {maps.path} could be read",
            "if their folder moved, pass it: --images DIR",
        )
    outcome.scores = run.method_scores()
    return outcome


class _Tally:
    """One method's running sums."""

    def __init__(
        self, name: str, params: Mapping[str, Any], measured: Sequence[Quantity], seed: int
    ) -> None:
        self.name = name
        self._params = params
        self.summary = Summary(measured, seed)
        self.seconds = 0.0  # spent on scoring
        self.failed_again = FailedAgain()
        self._rows = 0
        self._saliency = 0.0
        self._flat = 0
        self._why_flat: str | None = None

    def add(
        self, view: BatchView, scores: MapScores, classes: Tensor, pictures: Sequence[int]
    ) -> Floats:
        """Enter a batch of rows, all of them with numbers for scores; return theirs, (J, B)."""
        numbers = self.summary.update(scores, pictures)
        self._rows += len(scores.V)
        self._saliency += float(scores.V.mean((1, 2)).sum())
        flat = flat_maps(scores.V)
        self._flat += int(flat.sum())
        if self._flat and self._why_flat is None:
            name = named_for_flat(self.name, self._params)
            self._why_flat = why_flat(view.engine, name, view.forward.only(flat), classes[flat])
        return numbers

    def score(self) -> MethodScore:
        return MethodScore(
            self.name,
            self.summary.scores(),
            self._saliency / self._rows,
            self._rows / max(self.seconds, 1e-9),
            self.summary.undefined,
            self._rows,
            self._flat,
            self._why_flat or "",
        )


class _Run:
    """An evaluation under way: what it is of, and what has been scored."""

    def __init__(
        self,
        engine: Engine,
        maps: MapsFile,
        task: Task,
        method: Method | None,
        floor: Method | None,
        labels: Mapping[str, int] | None,
        seed: int,
        show: Sequence[Callable[[ScoredBatch], None]],
    ) -> None:
        self._engine = engine
        self._maps = maps
        self._task = task
        self._methods = (method, floor)
        self._floor = floor
        self._labels = labels
        self._show = show
        self._pictures = _pictures(task.paths)
        self._measured = task.quantities
        self._kept = [Kept(nu) for nu in task.nus]
        rows = [(maps.info.method, maps.info.method_params)]
        if floor is not None:
            rows.append((floor.name, floor.params))
        self._tallies = [_Tally(*row, self._measured, seed) for row in rows]
        self.outcome = Evaluation(accuracy=Accuracy() if labels is not None else None)

    @property
    def batch_size(self) -> int:
        """How many rows are scored at once: few where a method of many passes explains again."""
        method = self._methods[0]
        if method is None or not self._task.explains_again:
            return self._engine.batch_size
        return pictures_at_once(self._engine, method)

    @property
    def images(self) -> int:
        """How many images have been scored."""
        return self._tallies[0].summary.count

    def method_scores(self) -> list[MethodScore]:
        """What the measures say of the file's maps, and of the floor."""
        return [tally.score() for tally in self._tallies]

    def score(self, batch: Batch, part: range) -> list[tuple[int, str]]:
        """Score a batch of rows.

        Returns:
            The rows that are left out because a score is no number, and why.
        """
        engine = self._engine
        rows = self._maps.rows(part.start, part.stop)
        forward = engine.forward(engine.pixels(batch.images))
        finite = forward.finite.cpu().numpy()
        lost = [(i, not_numbers(engine)) for i in compress(batch.indices, ~finite)]
        batch, forward = _only(batch, forward, finite)
        if not batch.indices:
            return lost
        kept = np.array(batch.indices) - part.start
        V = torch.from_numpy(rows.saliency[kept]).to(engine.device)
        classes = torch.from_numpy(rows.class_index[kept].astype(np.int64)).to(engine.device)
        full = forward.confidence(classes)
        maps_of = (
            [V] if self._floor is None else [V, self._floor(engine, forward, classes).saliency]
        )
        view = BatchView(engine, forward, self._task.space, self._task.keep)
        names = [rows.paths[k] for k in kept]
        objects = self._task.objects_of(batch, names, classes)
        scored = [
            self._scored(
                tally,
                MapView(
                    view,
                    saliency,
                    classes,
                    full,
                    method=method if self._task.explains_again else None,
                    objects=objects,
                    failed_again=tally.failed_again,
                ),
            )
            for tally, saliency, method in zip(self._tallies, maps_of, self._methods, strict=False)
        ]
        masked = torch.stack([self._masked(scores) for scores in scored])
        finite = masked.isfinite().flatten(0, 1).all(0).cpu().numpy()
        if not finite.all():
            # All rows of a table are of the same images, so it is left out of the floor's too.
            lost += [(i, _NOT_MASKED) for i in compress(batch.indices, ~finite)]
            batch, forward = _only(batch, forward, finite)
            if not batch.indices:
                return lost
            at = torch.from_numpy(finite).to(engine.device)
            kept, classes, view = kept[finite], classes[at], view.only(at)
            scored = [scores.only(at) for scores in scored]
        pictures = [self._pictures[i] for i in batch.indices]
        numbers = [
            tally.add(view, scores, classes, pictures)
            for tally, scores in zip(self._tallies, scored, strict=True)
        ]
        self._hand_on(batch, view, scored, numbers, rows, kept)
        return lost

    def _scored(self, tally: _Tally, view: MapView) -> MapScores:
        """All scores that the measures want of a batch of maps."""
        began = time.monotonic()
        scores = score_maps(view, self._measured, self._kept)
        tally.seconds += time.monotonic() - began
        return scores

    def _masked(self, scores: MapScores) -> Tensor:
        """The scores at every ν, (M, B)."""
        return torch.stack([scores[one] for one in self._kept])

    def _hand_on(
        self,
        batch: Batch,
        view: BatchView,
        scored: Sequence[MapScores],
        numbers: Sequence[Floats],
        rows: MapBatch,
        kept: NDArray[np.int64],
    ) -> None:
        """Give what was scored to who shows it, and the true classes to the accuracy."""
        if self._show:
            batch_shown = ScoredBatch(
                paths=[rows.paths[k] for k in kept],
                class_index=rows.class_index[kept],
                class_names=[rows.class_names[k] for k in kept],
                predicted_index=view.forward.predicted.cpu().numpy().astype(np.int32),
                full=scored[0].full.float().cpu().numpy(),
                masked=torch.stack([self._masked(scores) for scores in scored]).cpu().numpy(),
                numbers=np.stack(numbers),
                mean_saliency=torch.stack([one.V.mean((1, 2)) for one in scored]).cpu().numpy(),
                flat=torch.stack([flat_maps(one.V) for one in scored]).cpu().numpy(),
                images=batch.images,
                saliency=[scores.V.clamp(0, 1).cpu().numpy() for scores in scored],
            )
            for show in self._show:
                show(batch_shown)
        if self._labels is not None and self.outcome.accuracy is not None:
            # An image counts once, however many of its classes are explained.
            new = [not i or self._pictures[i] != self._pictures[i - 1] for i in batch.indices]
            truth = [
                self._labels.get(rows.paths[k]) if one else None
                for k, one in zip(kept, new, strict=True)
            ]
            self.outcome.accuracy.update(best_classes(view.forward.logits), truth)


def _only(batch: Batch, forward: Forward, which: NDArray[np.bool_]) -> tuple[Batch, Forward]:
    """Some images of a batch, and their forward pass."""
    if which.all():
        return batch, forward
    fewer = batch.only(which.nonzero()[0].tolist(), batch.skipped)
    return fewer, forward.only(torch.from_numpy(which).to(forward.x.device))


def check_fits(engine: Engine, maps: MapsFile) -> None:
    """Check that a file's maps can be of the classifier.

    Raises:
        LcamError: They are of another size, or of classes that it does not have; or there are none.
    """
    H, W = size = engine.backbone.preprocess.input_shape[1:]
    if maps.size != size:
        raise LcamError(
            f"{maps.path} holds maps of {maps.size[0]}×{maps.size[1]}; "
            f"{engine.backbone.identity.name} expects {H}×{W}",
            "use the preprocessing the maps were made with",
        )
    if not len(maps):
        raise LcamError(f"{maps.path} holds no maps", "explain some images first")
    highest = maps.highest_class()
    if highest >= engine.backbone.num_classes:
        raise LcamError(
            f"{maps.path} explains class {highest}; "
            f"{engine.backbone.identity.name} has {engine.backbone.num_classes} classes",
            "pass the backbone and weights the maps were made with",
        )


def _pictures(row_paths: Sequence[str]) -> list[int]:
    """A number for each row's image: 0 for the first image, and so on."""
    known: dict[str, int] = {}
    return [known.setdefault(path, len(known)) for path in row_paths]


def resolve(
    maps: MapsFile, names: Sequence[str], images: Path | None
) -> tuple[list[str], dict[str, str]]:
    """Return where each row's image lies, and why some are not looked for."""
    paths: list[str] = []
    outside: dict[str, str] = {}
    for row_path in names:
        try:
            paths.append(str(maps.resolve(row_path, images)))
        except BadImageError as error:
            # NUL cannot be in a path, so reading it fails without touching the disk.
            refused = f"{row_path}\0"
            paths.append(refused)
            outside[refused] = error.reason
    return paths, outside
