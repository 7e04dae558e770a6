"""Several methods on the same images: one pass over them for all that need one forward pass.

A sweep reads the images once, forwards each batch once, and hands features and logits to every
method of the sweep. Every perturbed image is scored once for all measures that want it. What a
sweep leaves of a method are its :class:`PictureScores`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.engine.shared import Shared
from lcam_cli.errors import LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.images.read import MAX_PIXELS
from lcam_cli.images.stream import Batch, stream_batches
from lcam_cli.maps.record import MapBatch
from lcam_cli.measures.accuracy import best_classes
from lcam_cli.measures.measure import Kept
from lcam_cli.measures.objects import Objects
from lcam_cli.measures.picture_scores import PictureScores
from lcam_cli.measures.scoring import MeasureError, numbers_of, score_maps
from lcam_cli.measures.task import Task
from lcam_cli.measures.view import BatchView, FailedAgain, MapView
from lcam_cli.methods.base import Maps, Method, flat_maps
from lcam_cli.methods.explain import (
    NOT_NUMBERS,
    map_rows,
    not_numbers,
    pictures_at_once,
)
from lcam_cli.methods.lent import NetworkChangedError
from lcam_cli.methods.run import run_method, why_failed

# A method that fails on so many images before it explains one is given up.
_TRIES = 8


@dataclass
class Candidate:
    """A method that takes part, and where its maps go.

    Attributes:
        name: Its row.
        method: How it explains.
        scores: Its scores so far.
        write: Takes its maps, batch by batch.
        lost: The images it has no maps of.
        unreported: Those of them that it failed on and that are not reported until it explains
            one: a method that explains none is reported once, not image by image.
        failed: Why it was given up; empty where it was not.
        failed_again: Whether it has failed when a measure had it explain again.
    """

    name: str
    method: Method
    scores: PictureScores
    write: Callable[[MapBatch], None] = lambda _rows: None
    lost: list[Skipped] = field(default_factory=list)
    unreported: list[Skipped] = field(default_factory=list)
    failed: str = ""
    failed_again: FailedAgain = field(default_factory=FailedAgain)

    @property
    def last_failure(self) -> str:
        """Why it failed on the last image that is not reported yet; else empty."""
        return self.unreported[-1].reason.removeprefix(f"{self.name}: ") if self.unreported else ""


@dataclass
class _Batch:
    """One batch as all candidates of a sweep see it."""

    task: Task
    read: Batch
    view: BatchView
    classes: Tensor  # (B, C)
    full: Tensor  # (B, C)
    objects: Sequence[Objects | None]  # C of them; None where no measure asks
    columns: Sequence[Tensor]  # C of (B,): the same tensors for all methods, which share gradients
    seconds: float = 0.0  # what each method would have taken to forward it by itself

    @classmethod
    def of(cls, engine: Engine, task: Task, read: Batch) -> _Batch:
        began = _now(engine)
        forward = engine.forward(engine.pixels(read.images))
        forward.shared = Shared()
        classes = task.choice.of(forward)
        full = forward.scores.gather(1, classes)
        seconds = _now(engine) - began
        view = BatchView(engine, forward, task.space, task.keep)
        names = [task.paths[i] for i in read.indices]
        objects = [task.objects_of(read, names, one) for one in classes.unbind(1)]
        return cls(task, read, view, classes, full, objects, _columns(classes), seconds)

    @property
    def engine(self) -> Engine:
        return self.view.engine

    @property
    def forward(self) -> Forward:
        return self.view.forward

    def only(self, places: Sequence[int]) -> _Batch:
        """The batch of some of its images alone."""
        at = list(places)
        some = torch.tensor(at, device=self.engine.device)
        return replace(
            self,
            read=self.read.only(at, []),
            view=self.view.only(some),
            classes=self.classes[some],
            full=self.full[some],
            objects=[one and one.only(some) for one in self.objects],
            columns=_columns(self.classes[some]),
        )


def _columns(classes: Tensor) -> list[Tensor]:
    """Classes (B, C) as C of (B,)."""
    return [column.contiguous() for column in classes.unbind(1)]


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
    """Explain and score images with some methods, in one pass over the images.

    Args:
        engine: The engine with the classifier.
        candidates: The methods; their ``scores`` are filled in.
        task: What is to be scored.
        pictures: Which of the task's, a range of whole batches; None for all. Of a part, all are
            tried: whether a method fails on every image is not known of a part.
        workers: Processes that read images.
        max_pixels: Images with more are skipped.
        row_path: What an image is called in the maps written.
        advance: Called with the images done, after every batch.
        skip: Called with each image that cannot be read, and each that a method fails on.
    """
    everything = range(len(task.paths))
    part = everything if pictures is None else pictures
    # Where the scores of every image are no numbers, that is said once, and not of each.
    unreported: list[Skipped] = []
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
            unreported += lost
            for candidate in candidates:
                candidate.lost += lost
            if batch is not None:
                _score_batch(candidates, batch, row_path, skip, part == everything)
                for skipped in unreported:
                    skip(skipped)
                unreported.clear()
        advance(len(read.indices) + len(read.skipped))
        if all(candidate.failed for candidate in candidates):
            break
    some_scored = any(candidate.scores.scored.any() for candidate in candidates)
    if some_scored or part != everything:  # other parts may have numbers
        for skipped in unreported:
            skip(skipped)
    for candidate in candidates:
        if not candidate.scores.scored.any():
            why = candidate.last_failure or (
                "none could be read" if not unreported else NOT_NUMBERS
            )
            candidate.failed = candidate.failed or f"it could not explain any image ({why})"


def sweep_batch(engine: Engine, candidates: Sequence[Candidate]) -> int:
    """Return how many images a sweep of these methods takes at once."""
    return min(pictures_at_once(engine, candidate.method) for candidate in candidates)


def _numbers(batch: _Batch) -> tuple[_Batch | None, list[Skipped]]:
    """The images of a batch whose scores are numbers, and the others, which are left out."""
    finite = batch.forward.finite.tolist()
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
        candidate.scores.seconds += batch.seconds
        for piece, outcome in _pieces(candidate, batch):
            if isinstance(outcome, str):
                lost = Skipped(task.paths[piece.read.indices[0]], f"{candidate.name}: {outcome}")
                candidate.lost.append(lost)
                candidate.unreported.append(lost)
                continue
            names = [row_path(task.paths[i]) for i in piece.read.indices]
            alone = replace(piece.read, skipped=[])
            candidate.write(map_rows(engine, alone, piece.forward, piece.classes, outcome, names))
        if candidate.scores.scored.any():
            for lost in candidate.unreported:
                skip(lost)
            candidate.unreported.clear()
        elif gives_up and len(candidate.unreported) >= _TRIES:
            candidate.failed = f"it fails on every image ({candidate.last_failure})"


def _pieces(candidate: Candidate, batch: _Batch) -> list[tuple[_Batch, list[Maps] | str]]:
    """Explain and score a batch, image by image where the whole of it fails.

    Returns:
        The batch, or its images, each with its maps (one for every class) or why it has none.
    """
    try:
        return [(batch, _explain_and_score(candidate, batch))]
    except (MeasureError, NetworkChangedError):
        raise
    except Exception as error:  # a method may be anybody's: one image must not end the run
        if len(batch.read.indices) == 1:
            return [(batch, why_failed(error, candidate.name))]
    return [
        part for i in range(len(batch.read.indices)) for part in _pieces(candidate, batch.only([i]))
    ]


def _explain_and_score(candidate: Candidate, batch: _Batch) -> list[Maps]:
    """Enter a batch into the scores, whole or not at all."""
    engine, task, forward = batch.engine, batch.task, batch.forward
    shared = forward.shared or Shared()
    measured = task.quantities
    # The scores at every ν are kept, for galleries, whether or not a measure asks for them.
    kept = [Kept(nu) for nu in task.nus]
    explained, masked, numbers = [], [], []
    seconds = 0.0
    for c in range(batch.classes.shape[1]):
        classes = batch.columns[c]
        saved = shared.saved
        began = _now(engine)
        checked = run_method(engine, candidate.method, forward, classes)
        # By itself it would have computed what others have shared with it.
        seconds += _now(engine) - began + shared.saved - saved
        checked.check_range()
        maps, V = checked.maps, checked.maps.saliency
        if not (V.isfinite().all() and (maps.cam is None or maps.cam.isfinite().all())):
            raise LcamError("its map is not finite")
        view = MapView(
            batch.view,
            V,
            classes,
            batch.full[:, c],
            method=candidate.method if task.explains_again else None,
            objects=batch.objects[c],
            failed_again=candidate.failed_again,
        )
        scores = score_maps(view, measured, kept)
        masked.append(torch.stack([scores[one] for one in kept]))
        numbers.append(numbers_of(measured, scores))
        explained.append(maps)
    at_nus = torch.stack(masked, 2)
    if not at_nus.isfinite().all():
        raise LcamError("the classifier's scores are not finite on the part that its map keeps")
    found, at = candidate.scores, batch.read.indices
    found.seconds += seconds
    found.classes[at] = batch.classes.cpu().numpy()
    found.best[at] = best_classes(forward.logits)
    found.full[at] = batch.full.float().cpu().numpy()
    found.masked[:, at] = at_nus.cpu().numpy()
    found.numbers[:, at] = torch.stack(numbers, 2).cpu().numpy()
    for c, maps in enumerate(explained):
        found.mean_saliency[at, c] = maps.saliency.mean((1, 2)).cpu().numpy()
        found.flat[at, c] = flat_maps(maps.saliency).cpu().numpy()
        for k, i in enumerate(at):
            if i in task.shown:
                V = maps.saliency[k]
                found.shown[list(task.shown).index(i), c] = V.half().cpu().numpy()
    return explained


def _now(engine: Engine) -> float:
    """The time, once the device has done what it was asked to."""
    if engine.device.type == "cuda":
        torch.cuda.synchronize(engine.device)
    return time.monotonic()
