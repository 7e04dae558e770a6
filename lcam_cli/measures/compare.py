"""Several methods on the same pictures: one pass over them for all that need one forward pass.

A sweep reads the pictures once, forwards each batch once, and hands features and logits to every
method of the sweep. What it leaves of a method are its :class:`Terms`, the scores of every single
picture, so that rows can be compared picture by picture.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.errors import LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.images.read import MAX_PIXELS
from lcam_cli.images.stream import Batch, stream_batches
from lcam_cli.maps.record import Floats, MapBatch
from lcam_cli.measures.average_drop import drop, increase, mean_of
from lcam_cli.measures.curves import area, blurred, curve
from lcam_cli.measures.paired import Paired, paired
from lcam_cli.measures.score import CurveScore, NuScore
from lcam_cli.measures.threshold import top_percents
from lcam_cli.methods.base import Maps, Method, flat_maps
from lcam_cli.methods.explain import (
    NOT_NUMBERS,
    ClassChoice,
    map_rows,
    not_numbers,
    pictures_at_once,
)

# A method that fails on so many pictures before it explains one is given up.
_TRIES = 8


@dataclass(frozen=True)
class Task:
    """What all rows of a comparison share.

    Attributes:
        paths: The pictures, N of them.
        choice: Which classes of each, C of them.
        nus: Percentages ν kept, M of them.
        curves: ``"insertion"`` and ``"deletion"``, those that are wanted.
        space: ``"pixel"`` or ``"normalized"``: what hidden pixels become.
        shown: Positions in ``paths`` of the pictures whose maps are kept for a figure.
    """

    paths: Sequence[str]
    choice: ClassChoice = field(default_factory=ClassChoice)
    nus: Sequence[float] = (100.0, 50.0, 15.0)
    curves: Sequence[str] = ()
    space: str = "pixel"
    shown: Sequence[int] = ()


@dataclass
class Terms:
    """One method's scores, picture by picture; NaN where a picture could not be scored.

    Attributes:
        classes: The classes explained, int64 (N, C); −1 where unknown.
        full: Scores f(X) of those classes, float32 (N, C).
        masked: f(X ⊙ φ_ν(V)), float32 (M, N, C).
        curves: Areas under the curves of ``Task.curves``, float32 (curves, N, C).
        mean_saliency: Mean of V, float32 (N, C).
        flat: Which maps have one value everywhere, bool (N, C).
        shown: The maps kept for a figure, float16 (len(Task.shown), C, H, W).
        seconds: Time taken to make the maps, forward passes included, measuring left out.
    """

    classes: NDArray[np.int64]
    full: Floats
    masked: Floats
    curves: Floats
    mean_saliency: Floats
    flat: NDArray[np.bool_]
    shown: NDArray[np.float16]
    seconds: float = 0.0

    @classmethod
    def empty(cls, task: Task, side: int) -> Terms:
        """No picture scored yet, of maps of ``side``×``side``."""
        N, C = len(task.paths), task.choice.per_picture

        def missing(*shape: int) -> Floats:
            return np.full(shape, np.nan, np.float32)

        return cls(
            classes=np.full((N, C), -1, np.int64),
            full=missing(N, C),
            masked=missing(len(task.nus), N, C),
            curves=missing(len(task.curves), N, C),
            mean_saliency=missing(N, C),
            flat=np.zeros((N, C), np.bool_),
            shown=np.full((len(task.shown), C, side, side), np.nan, np.float16),
        )

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Which pictures have been scored, (N,)."""
        return np.asarray(np.isfinite(self.full).all(axis=1))

    def enter(self, pictures: range, other: Terms, task: Task) -> None:
        """Take over what another process, or an earlier run, scored of some pictures.

        Args:
            pictures: Which, of all N.
            other: All N pictures too.
            task: What was scored.
        """
        here = slice(pictures.start, pictures.stop)
        self.classes[here] = other.classes[here]
        self.full[here] = other.full[here]
        self.masked[:, here] = other.masked[:, here]
        self.curves[:, here] = other.curves[:, here]
        self.mean_saliency[here] = other.mean_saliency[here]
        self.flat[here] = other.flat[here]
        drawn = [place for place, index in enumerate(task.shown) if index in pictures]
        self.shown[drawn] = other.shown[drawn]
        self.seconds += other.seconds


@dataclass
class Candidate:
    """A method that takes part, and where its maps go.

    Attributes:
        name: Its row.
        method: How it explains.
        terms: Its scores so far.
        write: Takes its maps, batch by batch.
        lost: The pictures it has no maps of.
        untold: Those of them that it failed on and nobody has been told of, until it explains one:
            a method that explains none is told of once, not picture by picture.
        failed: Why it was given up; empty where it was not.
    """

    name: str
    method: Method
    terms: Terms
    write: Callable[[MapBatch], None] = lambda _rows: None
    lost: list[Skipped] = field(default_factory=list)
    untold: list[Skipped] = field(default_factory=list)
    failed: str = ""

    @property
    def last_failure(self) -> str:
        """Why it failed on the last picture that nobody has been told of; else empty."""
        return self.untold[-1].reason.removeprefix(f"{self.name}: ") if self.untold else ""


@dataclass
class _Batch:
    """One batch as all candidates of a sweep see it."""

    engine: Engine
    task: Task
    read: Batch
    seen: Forward
    classes: Tensor  # (B, C)
    full: Tensor  # (B, C)
    black: Tensor  # (1, 3, 1, 1): what hidden pixels become
    blurred: Tensor | None
    seconds: float = 0.0  # what each method would have taken to forward it by itself
    ends: Mapping[str, Tensor] = field(default_factory=dict)  # (2, B, C) by curve

    @classmethod
    def of(cls, engine: Engine, task: Task, read: Batch) -> _Batch:
        began = _now(engine)
        seen = engine.forward(engine.pixels(read.images))
        classes = task.choice.of(seen)
        full = seen.scores.gather(1, classes)
        mean = torch.tensor(engine.backbone.preprocess.mean, device=engine.device)
        hidden = mean if task.space == "normalized" else torch.zeros_like(mean)
        batch = cls(engine, task, read, seen, classes, full, hidden.view(1, 3, 1, 1), None)
        ends = {}
        if "deletion" in task.curves:
            nothing = batch.black.expand_as(seen.x[:1])
            none = engine.scores(nothing)[0][classes]
            ends["deletion"] = torch.stack([full, none])
        if "insertion" in task.curves:
            batch.blurred = blurred(seen.x, mean.view(1, 3, 1, 1))
            begin = engine.scores(batch.blurred).gather(1, classes)
            ends["insertion"] = torch.stack([begin, full])
        return replace(batch, ends=ends, seconds=_now(engine) - began)

    def only(self, places: Sequence[int]) -> _Batch:
        """The batch of some of its pictures alone."""
        read, at = self.read, list(places)
        some = torch.tensor(at, device=self.engine.device)
        return replace(
            self,
            read=Batch([read.indices[i] for i in at], read.images[at], read.crop_boxes[at], []),
            seen=self.seen.only(some),
            classes=self.classes[some],
            full=self.full[some],
            blurred=None if self.blurred is None else self.blurred[some],
            ends={name: values[:, some] for name, values in self.ends.items()},
        )


def sweep(
    engine: Engine,
    candidates: Sequence[Candidate],
    task: Task,
    *,
    workers: int = 2,
    pictures: range | None = None,
    max_pixels: int = MAX_PIXELS,
    row_path: Callable[[str], str] = lambda path: path,
    advance: Callable[[int], None] = lambda _pictures: None,
    skip: Callable[[Skipped], None] = lambda _skipped: None,
) -> None:
    """Explain and score pictures with some methods, in one pass over the pictures.

    Args:
        engine: The engine with the classifier.
        candidates: The methods; their ``terms`` are filled in.
        task: What is to be scored.
        pictures: Which of the task's, a range of whole batches; None for all. Of a part, all are
            tried: whether a method fails on every picture is not seen in a part.
        workers: Processes that read pictures.
        max_pixels: Pictures with more are skipped.
        row_path: What a picture is called in the maps written.
        advance: Called with the pictures done, after every batch.
        skip: Called with each picture that cannot be read, and each that a method fails on.
    """
    everything = range(len(task.paths))
    part = everything if pictures is None else pictures
    # Where the scores of every picture are no numbers, that is told once, and not of each.
    untold: list[Skipped] = []
    stream = stream_batches(
        task.paths[: part.stop],
        engine.backbone.preprocess,
        sweep_batch(engine, candidates),
        workers=workers,
        start=part.start,
        max_pixels=max_pixels,
    )
    for read in stream:
        for skipped in read.skipped:
            skip(skipped)
        for candidate in candidates:
            candidate.lost += read.skipped
        if read.indices:
            batch, lost = _numbers(_Batch.of(engine, task, read))
            untold += lost
            for candidate in candidates:
                candidate.lost += lost
            if batch is not None:
                _score_batch(candidates, batch, row_path, skip, part == everything)
                for skipped in untold:
                    skip(skipped)
                untold.clear()
        advance(len(read.indices) + len(read.skipped))
        if all(candidate.failed for candidate in candidates):
            break
    if part != everything:  # other parts may have numbers
        for skipped in untold:
            skip(skipped)
    for candidate in candidates:
        if not candidate.terms.scored.any():
            why = candidate.last_failure or ("none could be read" if not untold else NOT_NUMBERS)
            candidate.failed = candidate.failed or f"it explained no picture ({why})"


def sweep_batch(engine: Engine, candidates: Sequence[Candidate]) -> int:
    """Return how many pictures a sweep of these methods takes at once."""
    return min(pictures_at_once(engine, candidate.method) for candidate in candidates)


def _numbers(batch: _Batch) -> tuple[_Batch | None, list[Skipped]]:
    """The pictures of a batch whose scores are numbers, and the others, which are left out."""
    finite = batch.seen.finite.tolist()
    if all(finite):
        return batch, []
    paths = (batch.task.paths[i] for i in batch.read.indices)
    why = not_numbers(batch.engine)
    lost = [Skipped(path, why) for path, one in zip(paths, finite, strict=True) if not one]
    kept = [k for k, one in enumerate(finite) if one]
    return (batch.only(kept) if kept else None), lost


def _score_batch(
    candidates: Sequence[Candidate],
    batch: _Batch,
    row_path: Callable[[str], str],
    skip: Callable[[Skipped], None],
    gives_up: bool,
) -> None:
    engine, task = batch.engine, batch.task
    for candidate in candidates:
        if candidate.failed:
            continue
        candidate.terms.seconds += batch.seconds
        for piece, outcome in _pieces(candidate, batch):
            if isinstance(outcome, str):
                lost = Skipped(task.paths[piece.read.indices[0]], f"{candidate.name}: {outcome}")
                candidate.lost.append(lost)
                candidate.untold.append(lost)
                continue
            names = [row_path(task.paths[i]) for i in piece.read.indices]
            alone = replace(piece.read, skipped=[])
            candidate.write(map_rows(engine, alone, piece.seen, piece.classes, outcome, names))
        if candidate.terms.scored.any():
            for lost in candidate.untold:
                skip(lost)
            candidate.untold.clear()
        elif gives_up and len(candidate.untold) >= _TRIES:
            candidate.failed = f"it fails on every picture ({candidate.last_failure})"


def _pieces(candidate: Candidate, batch: _Batch) -> list[tuple[_Batch, list[Maps] | str]]:
    """Explain and score a batch, picture by picture where the whole of it fails.

    Returns:
        The batch, or its pictures, each with its maps (one for every class) or why it has none.
    """
    try:
        return [(batch, _explain_and_score(candidate, batch))]
    except Exception as error:  # a method may be anybody's: one picture must not end the run
        if len(batch.read.indices) == 1:
            return [(batch, _reason(error))]
    return [
        part for i in range(len(batch.read.indices)) for part in _pieces(candidate, batch.only([i]))
    ]


def _explain_and_score(candidate: Candidate, batch: _Batch) -> list[Maps]:
    """Enter a batch into the terms, whole or not at all."""
    engine, task, seen = batch.engine, batch.task, batch.seen
    explained, masked, curves = [], [], []
    seconds = 0.0
    for c in range(batch.classes.shape[1]):
        classes = batch.classes[:, c].contiguous()
        began = _now(engine)
        maps = candidate.method(engine, seen, classes)
        seconds += _now(engine) - began
        V = maps.saliency.clamp(0, 1)
        finite = V.isfinite().all() and (maps.cam is None or maps.cam.isfinite().all())
        if V.shape != (len(seen.x), *seen.x.shape[2:]) or not finite:
            raise LcamError("its map is not finite, or not of the input's size")
        shown = top_percents(V, task.nus)
        masked.append(
            torch.stack([engine.masked_confidence(seen.x, m, classes, task.space) for m in shown])
        )
        curves.append(_areas(batch, V, classes, c))
        explained.append(Maps(V, maps.cam))
    scores = torch.stack(masked, 2)
    if not scores.isfinite().all():
        raise LcamError("the classifier's scores are not numbers where its map hides the rest")
    terms, at = candidate.terms, batch.read.indices
    terms.seconds += seconds
    terms.classes[at] = batch.classes.cpu().numpy()
    terms.full[at] = batch.full.float().cpu().numpy()
    terms.masked[:, at] = scores.cpu().numpy()
    terms.curves[:, at] = torch.stack(curves, 2).cpu().numpy()
    for c, maps in enumerate(explained):
        terms.mean_saliency[at, c] = maps.saliency.mean((1, 2)).cpu().numpy()
        terms.flat[at, c] = flat_maps(maps.saliency).cpu().numpy()
        for k, i in enumerate(at):
            if i in task.shown:
                V = maps.saliency[k]
                terms.shown[list(task.shown).index(i), c] = V.half().cpu().numpy()
    return explained


def _areas(batch: _Batch, V: Tensor, classes: Tensor, c: int) -> Tensor:
    """Areas under the curves that are wanted, (curves, B)."""
    x = batch.seen.x
    ways = {"insertion": (batch.blurred, x), "deletion": (x, batch.black.expand_as(x))}
    areas = [V.new_zeros((0, len(V)))]
    for name in batch.task.curves:
        start, end = ways[name]
        assert start is not None
        ends = batch.ends[name][..., c]
        areas.append(area(curve(batch.engine, start, end, V, classes, ends)).unsqueeze(0))
    return torch.cat(areas)


def _now(engine: Engine) -> float:
    """The time, once the device has done what it was asked to."""
    if engine.device.type == "cuda":
        torch.cuda.synchronize(engine.device)
    return time.monotonic()


def _reason(error: Exception) -> str:
    if isinstance(error, LcamError):
        return error.what
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


@dataclass(frozen=True)
class RowScore:
    """One row of a comparison.

    Attributes:
        name: The method.
        nu: AD and IC by ν.
        curves: Areas under the curves, by ``"insertion"`` and ``"deletion"``.
        mean_saliency: Mean of V, in [0, 1].
        images_per_second: Pictures explained a second, measuring left out.
        flat_maps: How many of the maps compared have one value everywhere.
    """

    name: str
    nu: Mapping[float, NuScore]
    curves: Mapping[str, CurveScore]
    mean_saliency: float
    images_per_second: float
    flat_maps: int = 0


def common_pictures(rows: Sequence[Terms]) -> NDArray[np.bool_]:
    """Return which pictures every row has scored, (N,): those that rows are compared on."""
    found: NDArray[np.bool_] = np.logical_and.reduce([terms.scored for terms in rows])
    return found


def score_rows(
    rows: Mapping[str, Terms], task: Task, *, floor: str | None = None, seed: int = 0
) -> list[RowScore]:
    """Score rows on the pictures that all of them have.

    A picture's term is its mean over the classes explained, so that intervals are over pictures.

    Args:
        rows: Terms by name.
        task: What was scored.
        floor: The row that cannot be best.
        seed: Of the bootstrap.

    Raises:
        LcamError: No picture was scored by all rows.
    """
    common = common_pictures(list(rows.values()))
    if not common.any():
        raise LcamError("no image was scored by all methods", "check that the images can be read")
    no_drop = no_confidence(list(rows.values()), common)
    terms = np.stack([_measures(row, common, no_drop) for row in rows.values()])
    M, curves = len(task.nus), list(task.curves)
    low_is_good = [True] * M + [False] * M + [name == "deletion" for name in curves]
    compared = paired(terms, low_is_good, [name != floor for name in rows], seed)
    scores = []
    for (name, row), columns in zip(rows.items(), compared, strict=True):
        ads, ics, areas = columns[:M], columns[M : 2 * M], columns[2 * M :]
        scores.append(
            RowScore(
                name,
                {nu: _nu_score(*pair) for nu, *pair in zip(task.nus, ads, ics, strict=True)},
                {
                    curve_name: CurveScore(one.mean, one.ci95, one.to_best)
                    for curve_name, one in zip(curves, areas, strict=True)
                },
                float(row.mean_saliency[common].mean(dtype=np.float64)),
                int(row.scored.sum()) / max(row.seconds, 1e-9),
                int(row.flat[common].sum()),
            )
        )
    return scores


def no_confidence(rows: Sequence[Terms], common: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return of which pictures and classes AD is not defined, (pictures, C): those that score 0."""
    found: NDArray[np.bool_] = np.logical_or.reduce([row.full[common] <= 0 for row in rows])
    return found


def undefined(rows: Sequence[Terms], task: Task) -> dict[str, int]:
    """Return for how many of the maps compared, a picture and a class each, a measure is undefined.

    Args:
        rows: Their terms.
        task: What was scored.

    Returns:
        Numbers by ``"ad"`` and the names of the curves: those are undefined where a score on the
        way is no number.
    """
    common = common_pictures(rows)
    curves = np.logical_or.reduce([np.isnan(row.curves[:, common]) for row in rows])
    counts = {name: int(one.sum()) for name, one in zip(task.curves, curves, strict=True)}
    return {"ad": int(no_confidence(rows, common).sum()), **counts}


def _nu_score(ad: Paired, ic: Paired) -> NuScore:
    # Whether a score rises is known of every picture that is compared.
    assert ic.mean is not None
    assert ic.ci95 is not None
    return NuScore(ad.mean, ic.mean, ad.ci95, ic.ci95, ad.to_best, ic.to_best)


def _measures(
    row: Terms, common: NDArray[np.bool_], no_drop: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """AD's terms at each ν, IC's at each ν, and the curves' areas: (measures, pictures).

    A picture's term is the mean over the classes that have one, and NaN where none has.
    """
    full, masked = torch.from_numpy(row.full[common]), torch.from_numpy(row.masked[:, common])
    drops = np.where(no_drop, np.nan, drop(full, masked).numpy().astype(np.float64))
    increases = increase(full, masked).numpy() * 100.0
    areas = row.curves[:, common].astype(np.float64)
    terms = np.concatenate([drops, increases, areas])
    there = np.isfinite(terms)
    return mean_of(np.where(there, terms, 0).sum(2), there.sum(2).astype(np.float64))
