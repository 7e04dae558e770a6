"""Scoring the maps of a file: what the classifier still sees through them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path

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
from lcam_cli.measures.accuracy import Accuracy
from lcam_cli.measures.average_drop import AverageDrop
from lcam_cli.measures.score import NuScore
from lcam_cli.measures.scored import ScoredBatch
from lcam_cli.measures.threshold import top_percents
from lcam_cli.methods.base import Method, flat_maps
from lcam_cli.methods.explain import no_numbers, not_numbers
from lcam_cli.methods.flat import why_flat

_NOT_MASKED = "the classifier's scores are not numbers on what the map leaves of this picture"


@dataclass
class MethodScore:
    """What the measures say about one set of maps.

    Attributes:
        name: The method.
        nu: AD and IC by ν.
        mean_saliency: Mean of V over all maps, in [0, 1].
        images_per_second: Maps scored a second.
        undefined: How many of the maps AD is not defined for: their class scores 0.
        maps: How many there are.
        flat_maps: How many of them have one value everywhere.
        why_flat: Why the first of those are, in words; empty where that is not known.
    """

    name: str
    nu: Mapping[float, NuScore]
    mean_saliency: float
    images_per_second: float
    undefined: int = 0
    maps: int = 0
    flat_maps: int = 0
    why_flat: str = ""


@dataclass
class Evaluation:
    """The outcome of :func:`evaluate`.

    Attributes:
        scores: The file's maps, and the floor if it was asked for.
        images: Pictures scored, each with all its rows.
        skipped: Pictures that could not be read again, or whose scores are no numbers.
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
        self._flat = 0
        self._why_flat: str | None = None

    def masked_scores(
        self, engine: Engine, seen: Forward, V: Tensor, classes: Tensor, space: str
    ) -> Tensor:
        """The scores of a batch of rows through their maps, (M, B)."""
        began = time.monotonic()
        shown = top_percents(V, self._measure.nus)
        masked = torch.stack(
            [engine.masked_confidence(seen.x, mask, classes, space) for mask in shown]
        )
        self._seconds += time.monotonic() - began
        return masked

    def add(
        self,
        engine: Engine,
        seen: Forward,
        V: Tensor,
        classes: Tensor,
        full: Tensor,
        masked: Tensor,
        pictures: Sequence[int],
    ) -> None:
        """Enter a batch of rows, all of them with numbers for scores."""
        self._measure.update(full, masked, pictures)
        self._rows += len(V)
        self._saliency += float(V.mean((1, 2)).sum())
        flat = flat_maps(V)
        self._flat += int(flat.sum())
        if self._flat and self._why_flat is None:
            self._why_flat = why_flat(engine, self.name, seen.only(flat), classes[flat])

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
            self._measure.undefined,
            self._rows,
            self._flat,
            self._why_flat or "",
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
        skip: Called with each picture that cannot be read, or whose scores are no numbers.
        show: Called with every batch of pictures, their maps and scores.
        stop: Asked after every batch; True ends the run with what has been scored.

    Raises:
        LcamError: The file's maps or classes do not fit the classifier, or no picture can be read
            or has scores that are numbers.
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
    # Where no picture has numbers for scores, that is told once, and not of each.
    without_numbers: list[Skipped] = []
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
            lost = _score_batch(
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
            for row, reason in lost:
                if paths[row] in untold:
                    untold.remove(paths[row])
                    without_numbers.append(Skipped(paths[row], reason))
        if tallies[0].pictures:
            for named in without_numbers:
                outcome.skipped.append(named)
                skip(named)
            without_numbers.clear()
        advance(last - first)
        if stop():
            break
    outcome.images = tallies[0].pictures
    if without_numbers:
        raise no_numbers(len(without_numbers), engine.hardware.precision)
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
) -> list[tuple[int, str]]:
    """Score a batch of rows.

    Returns:
        The rows that are left out because a score is no number, and why.
    """
    rows = maps.rows(part.start, part.stop)
    seen = engine.forward(engine.pixels(batch.images))
    finite = seen.finite.cpu().numpy()
    lost = [(i, not_numbers(engine)) for i in compress(batch.indices, ~finite)]
    batch, seen = _only(batch, seen, finite)
    if not batch.indices:
        return lost
    kept = np.array(batch.indices) - part.start
    V = torch.from_numpy(rows.saliency[kept]).to(engine.device)
    classes = torch.from_numpy(rows.class_index[kept].astype(np.int64)).to(engine.device)
    full = seen.confidence(classes)
    maps_of = [V] if floor is None else [V, floor(engine, seen, classes).saliency]
    masked = [
        tally.masked_scores(engine, seen, saliency, classes, space)
        for tally, saliency in zip(tallies, maps_of, strict=True)
    ]
    finite = torch.stack(masked).isfinite().flatten(0, 1).all(0).cpu().numpy()
    if not finite.all():
        # All rows of a table are of the same pictures, so it is left out of the floor's too.
        lost += [(i, _NOT_MASKED) for i in compress(batch.indices, ~finite)]
        batch, seen = _only(batch, seen, finite)
        if not batch.indices:
            return lost
        at = torch.from_numpy(finite).to(engine.device)
        kept, classes, full = kept[finite], classes[at], full[at]
        maps_of, masked = [one[at] for one in maps_of], [one[:, at] for one in masked]
    pictures_here = [pictures[i] for i in batch.indices]
    for tally, saliency, scores in zip(tallies, maps_of, masked, strict=True):
        tally.add(engine, seen, saliency, classes, full, scores, pictures_here)
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
    return lost


def _only(batch: Batch, seen: Forward, which: NDArray[np.bool_]) -> tuple[Batch, Forward]:
    """Some pictures of a batch, and their forward pass."""
    if which.all():
        return batch, seen
    indices = list(compress(batch.indices, which))
    fewer = Batch(indices, batch.images[which], batch.crop_boxes[which], batch.skipped)
    return fewer, seen.only(torch.from_numpy(which).to(seen.x.device))


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
