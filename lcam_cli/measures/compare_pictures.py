"""The images of a comparison once more, with the maps and scores of all its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.images.read import MAX_PIXELS
from lcam_cli.images.stream import Batch, stream_batches
from lcam_cli.maps.hdf5.reader import MapsFile
from lcam_cli.maps.record import MapBatch
from lcam_cli.measures.picture_scores import PictureScores
from lcam_cli.measures.rows import common_pictures, compared_numbers
from lcam_cli.measures.scored import ScoredBatch, ScoredRows
from lcam_cli.measures.task import Task

# Maps of each row held at a time.
_AT_ONCE = 16
# Images at a time where only their numbers are wanted.
_ROWS_AT_ONCE = 1024


def scored_pictures(
    task: Task,
    rows: Sequence[PictureScores],
    maps: Sequence[MapsFile],
    preprocess: Preprocess,
    *,
    workers: int = 2,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[ScoredBatch]:
    """Read the images that all rows have scored, with their maps, a few at a time.

    An image that can no longer be read is left out.

    Args:
        task: What was scored.
        rows: The rows' scores.
        maps: The rows' maps, as the sweeps wrote them.
        preprocess: The classifier's.
        workers: Processes that read images.
        max_pixels: Images with more are left out.

    Raises:
        LcamError: A maps file cannot be read, or does not hold what the sweeps wrote.
    """
    common = np.flatnonzero(common_pictures(rows))
    C = task.choice.per_picture
    # Each file holds the images that its method has scored, in their order.
    places = [(np.cumsum(row.scored) - 1) * C for row in rows]
    stream = stream_batches(
        [task.paths[int(i)] for i in common],
        preprocess,
        max(1, _AT_ONCE // C),
        workers=workers,
        max_pixels=max_pixels,
    )
    for read in stream:
        if read.indices:
            at = common[read.indices]
            found = [_rows(file, place[at], C) for file, place in zip(maps, places, strict=True)]
            yield _scored(read, at, found, rows, C)


def _rows(file: MapsFile, firsts: NDArray[np.int64], C: int) -> list[MapBatch]:
    """Read the C rows from each place on, neighbours together."""
    breaks = np.flatnonzero(np.diff(firsts) != C) + 1
    runs = np.split(firsts, breaks)
    parts = [file.rows(int(run[0]), int(run[-1]) + C) for run in runs]
    if sum(len(part) for part in parts) != len(firsts) * C:
        raise LcamError(f"{file.path} lacks rows", "compare again without --resume")
    return parts


def _scored(
    read: Batch,
    at: NDArray[np.int64],
    found: Sequence[Sequence[MapBatch]],
    rows: Sequence[PictureScores],
    C: int,
) -> ScoredBatch:
    first = found[0]
    return ScoredBatch(
        paths=[path for part in first for path in part.paths],
        class_names=[name for part in first for name in part.class_names],
        images=np.repeat(read.images, C, axis=0),
        saliency=[np.concatenate([part.saliency for part in parts]) for parts in found],
        **_arrays(rows, at),
    )


def scored_rows(
    task: Task,
    rows: Sequence[PictureScores],
    class_names: Sequence[str],
    row_path: Callable[[str], str] = lambda path: path,
) -> Iterator[ScoredRows]:
    """Give the numbers of the images that all rows have scored, some at a time.

    Args:
        task: What was scored.
        rows: The rows' scores.
        class_names: The classifier's.
        row_path: What an image is called.
    """
    common = np.flatnonzero(common_pictures(rows))
    for start in range(0, len(common), _ROWS_AT_ONCE):
        at = common[start : start + _ROWS_AT_ONCE]
        arrays = _arrays(rows, at)
        yield ScoredRows(
            paths=[row_path(task.paths[i]) for i in at for _ in range(task.choice.per_picture)],
            class_names=[class_names[r] for r in arrays["class_index"]],
            **arrays,
        )


def _arrays(rows: Sequence[PictureScores], at: NDArray[np.int64]) -> dict[str, Any]:
    """What the rows' scores say of some images, as :class:`ScoredRows` has it."""
    first, C = rows[0], rows[0].classes.shape[1]
    numbers = compared_numbers(rows, at).astype(np.float32)
    return {
        "class_index": first.classes[at].reshape(-1).astype(np.int32),
        "predicted_index": np.repeat(first.predicted[at], C).astype(np.int32),
        "full": first.full[at].reshape(-1),
        "masked": np.stack([row.masked[:, at].reshape(len(row.masked), -1) for row in rows]),
        "numbers": numbers.reshape(*numbers.shape[:2], -1),
        "mean_saliency": np.stack([row.mean_saliency[at].reshape(-1) for row in rows]),
        "flat": np.stack([row.flat[at].reshape(-1) for row in rows]),
    }
