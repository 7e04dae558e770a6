"""Scoring the maps of a file: what the classifier still sees through them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.errors import BadImageError, LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.images.read import MAX_PIXELS
from lcam_cli.images.stream import Batch, stream_batches
from lcam_cli.maps.hdf5_reader import MapsFile
from lcam_cli.methods.base import Method
from lcam_cli.metrics.accuracy import Accuracy
from lcam_cli.metrics.average_drop import AverageDrop
from lcam_cli.metrics.score import NuScore
from lcam_cli.metrics.scored import ScoredBatch
from lcam_cli.metrics.threshold import top_percents


@dataclass
class MethodScore:
    """What the measures say about one set of maps.

    Attributes:
        name: The method.
        nu: AD and IC by ν.
        mean_saliency: Mean of V over all maps, in [0, 1].
        images_per_second: Maps scored a second.
    """

    name: str
    nu: Mapping[float, NuScore]
    mean_saliency: float
    images_per_second: float


@dataclass
class Evaluation:
    """The outcome of :func:`evaluate`.

    Attributes:
        scores: The file's maps, and the floor if it was asked for.
        images: Pictures scored, each with all its rows.
        skipped: Pictures that could not be read again.
        accuracy: The classifier's top-1 and top-5 where labels were given.
    """

    scores: list[MethodScore] = field(default_factory=list)
    images: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    accuracy: Accuracy | None = None


class _Tally:
    """One method's running sums."""

    def __init__(self, name: str, nus: Sequence[float], seed: int) -> None:
        self.name = name
        self._measure = AverageDrop(nus, seed)
        self._rows = 0
        self._saliency = 0.0
        self._seconds = 0.0

    def add(
        self,
        engine: Engine,
        seen: Forward,
        V: Tensor,
        classes: Tensor,
        full: Tensor,
        space: str,
        pictures: Sequence[int],
    ) -> Tensor:
        """Score a batch of rows; return the scores of the masked pictures, (M, B)."""
        began = time.monotonic()
        shown = top_percents(V, self._measure.nus)
        masked = torch.stack(
            [engine.masked_confidence(seen.x, mask, classes, space) for mask in shown]
        )
        self._measure.update(full, masked, pictures)
        self._rows += len(V)
        self._saliency += float(V.mean((1, 2)).sum())
        self._seconds += time.monotonic() - began
        return masked

    @property
    def pictures(self) -> int:
        """How many pictures have been scored."""
        return self._measure.count

    def score(self) -> MethodScore:
        return MethodScore(
            self.name,
            self._measure.summary(),
            self._saliency / self._rows,
            self._rows / max(self._seconds, 1e-9),
        )


def evaluate(
    engine: Engine,
    maps: MapsFile,
    *,
    nus: Sequence[float],
    images: Path | None = None,
    space: str = "pixel",
    floor: Method | None = None,
    labels: Mapping[str, int] | None = None,
    seed: int = 0,
    workers: int = 2,
    max_pixels: int = MAX_PIXELS,
    advance: Callable[[int], None] = lambda _rows: None,
    skip: Callable[[Skipped], None] = lambda _skipped: None,
    show: Callable[[ScoredBatch], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Score a file's maps by Average Drop and Increase in Confidence (Eq. 10, 11).

    The classifier sees each picture once whole and once through φ_ν(V) for every ν.

    Args:
        engine: The engine with the classifier that the maps explain.
        maps: The maps.
        nus: Percentages ν kept, in (0, 100].
        images: The folder of the pictures, if they have moved.
        space: ``"pixel"`` or ``"normalized"``: what hidden pixels become.
        floor: A method to score beside the maps, on the same pictures.
        labels: True classes by row path, for the classifier's accuracy.
        seed: Of the bootstrap intervals.
        workers: Processes that read pictures.
        max_pixels: Pictures with more are skipped.
        advance: Called with the rows done, after every batch.
        skip: Called with each picture that cannot be read.
        show: Called with every batch of pictures, their maps and scores.
        stop: Asked after every batch; True ends the run with what has been scored.

    Raises:
        LcamError: The file's maps or classes do not fit the classifier, or no picture can be read.
    """
    _check_fits(engine, maps)
    names = maps.paths()
    paths, outside = _resolve(maps, names, images)
    pictures = _pictures(names)
    untold = set(paths)
    tallies = [_Tally(maps.info.method, nus, seed)]
    if floor is not None:
        tallies.append(_Tally(floor.name, nus, seed))
    outcome = Evaluation(accuracy=Accuracy() if labels is not None else None)
    stream = stream_batches(
        paths,
        engine.backbone.preprocess,
        engine.batch_size,
        workers=workers,
        max_pixels=max_pixels,
    )
    for number, batch in enumerate(stream):
        first = number * engine.batch_size
        last = min(first + engine.batch_size, len(paths))
        for skipped in batch.skipped:
            reason = outside.get(skipped.path, skipped.reason)
            named = Skipped(skipped.path.removesuffix("\0"), reason)
            if skipped.path in untold:  # it has a row for each of its classes
                untold.remove(skipped.path)
                outcome.skipped.append(named)
                skip(named)
        if batch.indices:
            _score_batch(
                engine,
                maps,
                batch,
                range(first, last),
                pictures,
                tallies,
                floor,
                space,
                labels,
                outcome,
                show,
            )
        advance(last - first)
        if stop():
            break
    outcome.images = tallies[0].pictures
    if not outcome.images:
        raise LcamError(
            f"none of the {len(paths)} pictures of {maps.path} could be read",
            "if their folder moved, name it: --images DIR",
        )
    outcome.scores = [tally.score() for tally in tallies]
    return outcome


def _score_batch(
    engine: Engine,
    maps: MapsFile,
    batch: Batch,
    part: range,
    pictures: Sequence[int],
    tallies: list[_Tally],
    floor: Method | None,
    space: str,
    labels: Mapping[str, int] | None,
    outcome: Evaluation,
    show: Callable[[ScoredBatch], None] | None,
) -> None:
    rows = maps.rows(part.start, part.stop)
    kept = np.array(batch.indices) - part.start
    pictures_here = [pictures[i] for i in batch.indices]
    V = torch.from_numpy(rows.saliency[kept]).to(engine.device)
    classes = torch.from_numpy(rows.class_index[kept].astype(np.int64)).to(engine.device)
    seen = engine.forward(engine.pixels(batch.images))
    full = seen.confidence(classes)
    maps_of = [V] if floor is None else [V, floor(engine, seen, classes).saliency]
    masked = [
        tally.add(engine, seen, saliency, classes, full, space, pictures_here)
        for tally, saliency in zip(tallies, maps_of, strict=True)
    ]
    if show is not None:
        show(
            ScoredBatch(
                batch.images,
                [rows.paths[k] for k in kept],
                rows.class_index[kept],
                [rows.class_names[k] for k in kept],
                seen.predicted.cpu().numpy().astype(np.int32),
                full.float().cpu().numpy(),
                [saliency.clamp(0, 1).cpu().numpy() for saliency in maps_of],
                torch.stack(masked).float().cpu().numpy(),
            )
        )
    if labels is not None and outcome.accuracy is not None:
        # A picture counts once, however many of its classes are explained.
        new = [not i or pictures[i] != pictures[i - 1] for i in batch.indices]
        truth = [
            labels.get(rows.paths[k]) if one else None for k, one in zip(kept, new, strict=True)
        ]
        outcome.accuracy.update(seen.logits, truth)


def _check_fits(engine: Engine, maps: MapsFile) -> None:
    side = engine.backbone.preprocess.image_size
    if maps.size != (side, side):
        raise LcamError(
            f"{maps.path} holds maps of {maps.size[0]}×{maps.size[1]}; "
            f"{engine.backbone.identity.name} sees {side}×{side}",
            "evaluate with the preprocessing the maps were made with",
        )
    if not len(maps):
        raise LcamError(f"{maps.path} holds no maps", "explain some pictures first")
    highest = maps.highest_class()
    if highest >= engine.backbone.num_classes:
        raise LcamError(
            f"{maps.path} explains class {highest}; "
            f"{engine.backbone.identity.name} has {engine.backbone.num_classes} classes",
            "give the backbone and weights the maps were made with",
        )


def _pictures(row_paths: Sequence[str]) -> list[int]:
    """A number for each row's picture: 0 for the first picture, and so on."""
    known: dict[str, int] = {}
    return [known.setdefault(path, len(known)) for path in row_paths]


def _resolve(
    maps: MapsFile, names: Sequence[str], images: Path | None
) -> tuple[list[str], dict[str, str]]:
    """Where each row's picture lies, and why some are not looked for."""
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
