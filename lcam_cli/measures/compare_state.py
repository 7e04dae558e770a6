"""What a comparison keeps on the disk, so that an interrupted one can go on.

A file a method and part of the images: one process makes one part, of all of them; ranks make one
each.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.images.tars import locate
from lcam_cli.maps.atomic import atomic_file
from lcam_cli.maps.record import preprocess_of_0_1
from lcam_cli.measures.picture_scores import PictureScores
from lcam_cli.measures.sweep import Candidate
from lcam_cli.measures.task import Task
from lcam_cli.working_folder import RunPath

_VERSION = 7
_DIGITS = 16


def comparison_id(engine: Engine, task: Task) -> str:
    """Return a name for all that the rows of a comparison share, a digest in hexadecimal.

    It covers the images (by path, size and date), the classifier with its weights, layer and
    preprocessing, the precision, and what is measured how.
    """
    identity = engine.backbone.identity
    return _digest(
        {
            "version": _VERSION,
            "pictures": [_picture(path) for path in task.paths],
            "shown": list(task.shown),
            "backbone": [
                identity.name,
                identity.weights,
                identity.layer,
                identity.grid,
                identity.activation,
                # Only where they say something, so that most comparisons keep their name.
                *filter(any, [[identity.output, identity.probabilities]]),
            ],
            "preprocess": preprocess_of_0_1(engine.backbone.preprocess.to_json()),
            "precision": engine.hardware.precision,
            "classes": [list(task.choice.indices), task.choice.top_k],
            "nus": list(task.nus),
            "measures": [[measure.name, measure.settings] for measure in task.measures],
            "space": task.space,
            "keep": task.keep,
            "objects": task.objects and task.objects.identity,
        }
    )


def candidate_id(candidate: Candidate) -> str:
    """Return a name for a row, its method and its settings, a digest in hexadecimal."""
    method = candidate.method
    return _digest([candidate.name, method.name, method.params, method.forward_passes])


class CompareState:
    """A folder that keeps the scores of each finished part, and its maps until they are joined.

    Args:
        folder: Where comparisons keep theirs.
        engine: The engine with the classifier.
        task: What is scored.

    Attributes:
        folder: This comparison's own folder, made when something is saved.
    """

    def __init__(self, folder: Path, engine: Engine, task: Task) -> None:
        self._size = engine.backbone.preprocess.input_shape[1:]
        self._task = task
        self.folder = folder / comparison_id(engine, task)

    def maps_path(self, candidate: Candidate, pictures: range | None = None) -> Path:
        """Where a method's maps lie until they are joined with the others'.

        Args:
            candidate: The row.
            pictures: Those that they are of; None for all.
        """
        if pictures is None or len(pictures) == len(self._task.paths):
            return self.folder / f"{candidate_id(candidate)}.h5"
        return self._scores_path(candidate, pictures).with_suffix(".h5")

    def parts(self, candidate: Candidate) -> list[range]:
        """Return the parts of a method that are kept, in order."""
        name = re.compile(rf"{candidate_id(candidate)}\.(\d+)-(\d+)\.npz")
        there = self.folder.iterdir() if self.folder.is_dir() else ()
        matches = [match for path in there if (match := name.fullmatch(path.name))]
        found = [range(int(match[1]), int(match[2])) for match in matches]
        return sorted(found, key=lambda part: (part.start, part.stop))

    def save(
        self, candidate: Candidate, pictures: range, scores: PictureScores, failed: str = ""
    ) -> None:
        """Keep the scores of a finished part, whole or not at all.

        Args:
            candidate: The row.
            pictures: The part.
            scores: Of all images; those of the part count.
            failed: Why the method was given up there; empty where it was not.

        Raises:
            LcamError: The disk is full or fails.
        """
        try:
            with (
                atomic_file(self._scores_path(candidate, pictures)) as temporary,
                temporary.open("wb") as file,
            ):
                objects = self._task.objects
                found = json.dumps(None if objects is None else objects.found())
                texts = {"failed": np.asarray(failed), "found": np.asarray(found)}
                np.savez_compressed(file, **texts, **_arrays(scores))  # type: ignore[arg-type]
        except OSError as error:
            raise LcamError(
                f"cannot write to {self.folder}: {error.strerror or error}",
                "free some space, or pass another folder: --state DIR",
            ) from error

    def load(self, candidate: Candidate, pictures: range) -> tuple[PictureScores, str] | None:
        """Return what :meth:`save` was given for a part; None where it is missing or damaged.

        What was found of the objects goes to the task's, who tell it.
        """
        like = _arrays(PictureScores.empty(self._task, self._size))
        try:
            with np.load(self._scores_path(candidate, pictures), allow_pickle=False) as file:
                found = {name: file[name] for name in like}
                failed = str(file["failed"])
                of_objects = json.loads(str(file["found"]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        fits = all(
            found[name].shape == empty.shape and found[name].dtype == empty.dtype
            for name, empty in like.items()
        )
        if not fits:
            return None
        if self._task.objects is not None:
            self._task.objects.take_over(of_objects)
        return PictureScores(**{**found, "seconds": float(found["seconds"])}), failed

    def forget(self, candidate: Candidate, pictures: range) -> None:
        """Remove what is kept of a part."""
        self._scores_path(candidate, pictures).unlink(missing_ok=True)
        self.maps_path(candidate, pictures).unlink(missing_ok=True)

    def _scores_path(self, candidate: Candidate, pictures: range) -> Path:
        part = f"{pictures.start}-{pictures.stop}"
        return self.folder / f"{candidate_id(candidate)}.{part}.npz"


def shown_pictures(count: int, wanted: int) -> Sequence[int]:
    """Return up to ``wanted`` positions out of ``count``, evenly chosen."""
    wanted = min(count, wanted)
    return [(2 * k + 1) * count // (2 * wanted) for k in range(wanted)]


def _arrays(scores: PictureScores) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    named = {one.name: getattr(scores, one.name) for one in dataclasses.fields(scores)}
    return {name: np.asarray(value) for name, value in named.items()}


def _picture(path: str) -> list[object]:
    absolute = RunPath(path).absolute()
    file, place, *_ = locate(str(absolute))  # an image in a tar is as old as the tar
    try:
        status = Path(file).stat()
    except (OSError, ValueError):
        return [str(absolute)]
    return [str(absolute), status.st_size, status.st_mtime_ns, place]


def _digest(content: object) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:_DIGITS]
