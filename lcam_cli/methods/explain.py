"""Explaining many images: the loop from paths to rows of maps."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import compress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lcam_cli.engine.backward import graphs_at_once
from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.errors import LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.images.inputs import pictures_of
from lcam_cli.images.picture_tasks import PictureTasks
from lcam_cli.images.read import MAX_PIXELS
from lcam_cli.images.stream import Batch, stream_batches
from lcam_cli.maps.record import MapBatch
from lcam_cli.methods.base import Maps, Method, first_pass
from lcam_cli.methods.plugins import check_method
from lcam_cli.methods.registry import make_method
from lcam_cli.methods.run import CheckedMaps, run_method
from lcam_cli.plugins import is_own

NOT_NUMBERS = "the classifier's scores are not finite on this image"
"""How the reason begins for which an image is left out, in every command."""

_PICTURES_OF_MANY_PASSES = 4


def not_numbers(engine: Engine) -> str:
    """Why an image is left out whose scores are no numbers."""
    return NOT_NUMBERS + _in_precision(engine)


def _in_precision(engine: Engine) -> str:
    """What to add to a reason that another precision may do away with."""
    precision = engine.hardware.precision
    return "" if precision == "fp32" else f" in {precision}; try --precision fp32"


def no_numbers(pictures: int, precision: str) -> LcamError:
    """Return the error where the scores of every image are no numbers.

    Args:
        pictures: How many there are.
        precision: What the network computed in.
    """
    less = "" if precision == "fp32" else "try --precision fp32; otherwise "
    return LcamError(
        "the classifier's scores are not finite on "
        + (f"any of the {pictures} images" if pictures > 1 else "the only image"),
        f"{less}check that its weights hold no NaN, and that --mean and --std are those it was "
        "trained with",
    )


@dataclass(frozen=True)
class ClassChoice:
    """Which classes of an image are explained: the named ones, or else the ``top_k`` predicted.

    Attributes:
        indices: Classes named by the user, explained on every image.
        top_k: Without names, how many of the best-scored classes.
    """

    indices: tuple[int, ...] = ()
    top_k: int = 1

    @property
    def per_picture(self) -> int:
        """Rows an image."""
        return len(self.indices) or self.top_k

    def to_json(self) -> dict[str, Any]:
        """What files say of it."""
        return {"classes": list(self.indices)} if self.indices else {"top_k": self.top_k}

    def of(self, forward: Forward) -> Tensor:
        """Classes (B, C), int64, for a batch, best first."""
        if self.indices:
            chosen = torch.tensor(self.indices, device=forward.logits.device)
            return chosen.expand(len(forward.logits), -1)
        return forward.logits.topk(self.top_k, 1).indices


def pictures_at_once(engine: Engine, method: Method) -> int:
    """How many images make a batch.

    Methods of many passes fill the engine's batches with masks by themselves; few images at a
    time let their runs, which can take hours, show progress and be stopped. Those that
    ``batches_pictures`` have nothing to fill them with but images.
    """
    if method.forward_passes <= 1 or getattr(method, "batches_pictures", False):
        return engine.batch_size
    return min(engine.batch_size, _PICTURES_OF_MANY_PASSES)


def explained_at_once(engine: Engine, method: Method) -> int:
    """How many images :func:`explain` takes at once.

    It lets a method keep the graph of its first pass until the maps are made, so there are fewer
    where that graph is of the whole network.
    """
    count = pictures_at_once(engine, method)
    return graphs_at_once(engine, count) if getattr(method, "whole_graph", False) else count


def explain(
    engine: Engine,
    method: Method | str,
    pictures: object,
    *,
    choice: ClassChoice = ClassChoice(),
    workers: int = 2,
    start: int = 0,
    max_pixels: int = MAX_PIXELS,
    row_path: Callable[[str], str] = lambda path: path,
    tasks: PictureTasks | None = None,
) -> Iterator[MapBatch]:
    """Explain images, batch by batch, in order.

    Args:
        engine: The engine with the classifier.
        method: How to explain: a method, or the name of one that needs no training.
        pictures: Paths, folders, Pillow images, arrays or tensors, one or several; see
            :func:`~lcam_cli.images.inputs.pictures_of`. What is not a file is called ``image 3`` in
            the rows, counted from 0.
        choice: Which classes of each.
        workers: Processes that read images.
        start: The first image to take, a multiple of :func:`explained_at_once`.
        max_pixels: Images with more are skipped.
        row_path: What a path is called in the rows, e.g. relative to a root.
        tasks: For what is done with whole images later, such as overlays; they are kept for it.

    Yields:
        Rows in the order of the images, the classes of an image side by side; and the images
        that could not be read, or whose maps or scores are no numbers (:func:`not_numbers`).

    Raises:
        LcamError: More classes are asked for than the classifier has, the method is not known or
            does not do what a method does, or something given is no image.
        TypeError: Something given is of a type that no image, engine or method has.
    """
    if not isinstance(engine, Engine):
        raise TypeError(f"explain needs an Engine, not a {type(engine).__name__}: Engine(backbone)")
    if isinstance(method, str):
        method = make_method(method, engine.backbone)
    elif not is_own(method):
        check_method(method, f"the method {getattr(method, 'name', type(method).__name__)!r}")
    preprocess = engine.backbone.preprocess
    given = pictures_of(pictures, preprocess.channels, preprocess.window)
    paths = [one if isinstance(one, str) else f"image {i}" for i, one in enumerate(given)]
    if choice.top_k > engine.backbone.num_classes:
        raise LcamError(
            f"--top-k {choice.top_k}: this classifier has {engine.backbone.num_classes} classes",
            "ask for fewer",
        )
    stream = stream_batches(
        given,
        preprocess,
        explained_at_once(engine, method),
        workers=workers,
        start=start,
        max_pixels=max_pixels,
        tasks=tasks,
    )
    # A GPU gets its next batch before anybody waits for its last.
    outstanding = 1 if engine.device.type == "cuda" else 0
    begun: deque[Callable[[], MapBatch]] = deque()
    explaining = _Explaining(engine, method, choice, paths, row_path)
    for batch in stream:
        begun.append(explaining.begin(batch))
        if len(begun) > outstanding:
            yield begun.popleft()()
    for rows in begun:
        yield rows()


@dataclass(frozen=True)
class _Explaining:
    """How batches become rows: the arguments of :func:`explain`, with the images' paths."""

    engine: Engine
    method: Method
    choice: ClassChoice
    paths: Sequence[str]
    row_path: Callable[[str], str]

    def begin(self, batch: Batch) -> Callable[[], MapBatch]:
        """Start on a batch; what comes back waits for its rows and fetches them."""
        engine, method = self.engine, self.method
        if not batch.indices:
            return partial(no_rows, engine, batch.skipped)
        pixels = engine.pixels(batch.images)
        own = is_own(method)  # what a plug-in is handed is the same everywhere
        forward = first_pass(engine, method, pixels) if own else engine.forward(pixels)
        classes = self.choice.of(forward)
        columns = (classes[:, c].contiguous() for c in range(classes.shape[1]))
        try:
            found = [run_method(engine, method, forward, column) for column in columns]
        except Exception:
            forward.graph = None
            # Looked at here alone: on a GPU, a look is a wait.
            if forward.finite.all():
                raise
            if engine.can_compute_in_fp32:
                rows_in_fp32 = self._in_fp32(batch)
                return lambda: rows_in_fp32
            return self.begin(with_numbers(engine, batch, forward, self.paths))
        forward.graph = None  # its memory is the next batch's
        maps, names = [one.maps for one in found], self._names(batch)
        rows = partial(map_rows, engine, batch, forward, classes, maps, names)
        return partial(self._fetch, rows, found, batch, forward.finite)

    def _names(self, batch: Batch) -> list[str]:
        return [self.row_path(self.paths[i]) for i in batch.indices]

    def _fetch(
        self,
        fetch: Callable[[], MapBatch],
        found: Sequence[CheckedMaps],
        batch: Batch,
        scores_finite: Tensor,
    ) -> MapBatch:
        """Rows; where numbers are lacking, in fp32 or, if they still are, not at all."""
        rows = fetch()
        for one in found:
            one.check_range()
        scored = scores_finite.cpu().numpy()
        per_picture = len(rows) // len(batch.indices)
        has_map = rows.finite().reshape(-1, per_picture).all(axis=1)
        finite = np.asarray(has_map & scored, np.bool_)
        if finite.all():
            return rows
        kept = rows.only(np.repeat(finite, per_picture))
        lost = np.flatnonzero(~finite).tolist()
        if self.engine.can_compute_in_fp32:
            again = self._in_fp32(batch.only(lost, ()))
            kept = kept.merged(again, self._names(batch))
            kept.skipped = rows.skipped + again.skipped
        else:
            why = f"{self.method.name}: its map is not finite{_in_precision(self.engine)}"
            kept.skipped = rows.skipped + [
                Skipped(
                    self.paths[batch.indices[place]],
                    why if scored[place] else not_numbers(self.engine),
                )
                for place in lost
            ]
        return kept

    def _in_fp32(self, batch: Batch) -> MapBatch:
        """The rows of a batch on which fp16 gives no numbers."""
        with self.engine.in_fp32(self.paths[batch.indices[0]]):
            return self.begin(batch)()


def with_numbers(engine: Engine, batch: Batch, forward: Forward, paths: Sequence[str]) -> Batch:
    """A batch less the images whose scores are no numbers, which are skipped."""
    finite = forward.finite.cpu().numpy()
    lost = [Skipped(paths[i], not_numbers(engine)) for i in compress(batch.indices, ~finite)]
    return batch.only(finite.nonzero()[0].tolist(), batch.skipped + lost)


def map_rows(
    engine: Engine,
    batch: Batch,
    forward: Forward,
    classes: Tensor,
    maps: Sequence[Maps],
    names: list[str],
) -> MapBatch:
    """Put a batch's maps together as rows, the classes of an image side by side.

    Args:
        engine: The engine with the classifier.
        batch: B readable images, and those that are not.
        forward: Their forward pass.
        classes: The classes explained, (B, C).
        maps: The maps of each class, C of them.
        names: What the images are called, B of them.
    """
    scores = forward.scores.gather(1, classes)
    per_picture = classes.shape[1]
    chosen = classes.flatten().cpu().numpy().astype(np.int32)
    return MapBatch(
        saliency=_side_by_side([m.saliency for m in maps]).cpu().numpy(),
        cam=None if maps[0].cam is None else _cams(maps).cpu().numpy(),
        paths=[name for name in names for _ in range(per_picture)],
        class_index=chosen,
        predicted_index=_repeat(forward.predicted, per_picture).cpu().numpy().astype(np.int32),
        class_names=[engine.backbone.class_names[r] for r in chosen],
        confidence=scores.flatten().cpu().numpy(),
        crop_box=np.repeat(batch.crop_boxes, per_picture, axis=0),
        skipped=batch.skipped,
        sizes=np.repeat(batch.sizes, per_picture, axis=0),
    )


def _side_by_side(columns: list[Tensor]) -> Tensor:
    """C tensors (B, …), one a class, to (B·C, …) with an image's classes side by side."""
    return torch.stack(columns, 1).flatten(0, 1)


def _cams(maps: Sequence[Maps]) -> Tensor:
    return _side_by_side([m.cam for m in maps if m.cam is not None])


def _repeat(values: Tensor, times: int) -> Tensor:
    return values.repeat_interleave(times)


def no_rows(engine: Engine, skipped: list[Skipped]) -> MapBatch:
    """A batch without maps: images that could not be read are all there is to tell."""
    _, H, W = engine.backbone.preprocess.input_shape
    nothing = np.zeros(0, np.int32)
    return MapBatch(
        saliency=np.zeros((0, H, W), np.float32),
        cam=None,
        paths=[],
        class_index=nothing,
        predicted_index=nothing,
        class_names=[],
        confidence=np.zeros(0, np.float32),
        crop_box=np.zeros((0, 4), np.float32),
        skipped=skipped,
        sizes=np.zeros((0, 2), np.int32),
    )
