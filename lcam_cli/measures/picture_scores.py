"""One method's scores of every single image, so that rows can be compared image by image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lcam_cli.maps.record import Floats
from lcam_cli.measures.accuracy import BEST
from lcam_cli.measures.task import Task


@dataclass
class PictureScores:
    """One method's scores, image by image; NaN where an image could not be scored.

    Attributes:
        classes: The classes explained, int64 (N, C); −1 where unknown.
        best: The classifier's five highest classes, int64 (N, 5); −1 where unknown.
        full: Scores f(X) of those classes, float32 (N, C).
        masked: f(X ⊙ φ_ν(V)), float32 (M, N, C).
        numbers: What the measures make of the maps, float32 (J, N, C): a row a part of each of
            ``Task.quantities``, in their order; NaN also where a measure is not defined.
        mean_saliency: Mean of V, float32 (N, C).
        flat: Which maps have one value everywhere, bool (N, C).
        shown: The maps kept for a figure, float16 (len(Task.shown), C, H, W).
        seconds: Time taken to make the maps, forward passes included, measuring left out.
    """

    classes: NDArray[np.int64]
    best: NDArray[np.int64]
    full: Floats
    masked: Floats
    numbers: Floats
    mean_saliency: Floats
    flat: NDArray[np.bool_]
    shown: NDArray[np.float16]
    seconds: float = 0.0

    @classmethod
    def empty(cls, task: Task, size: tuple[int, int]) -> PictureScores:
        """No image scored yet, of maps of ``size``, (H, W)."""
        N, C = len(task.paths), task.choice.per_picture

        def missing(*shape: int) -> Floats:
            return np.full(shape, np.nan, np.float32)

        return cls(
            classes=np.full((N, C), -1, np.int64),
            best=np.full((N, BEST), -1, np.int64),
            full=missing(N, C),
            masked=missing(len(task.nus), N, C),
            numbers=missing(task.parts.count, N, C),
            mean_saliency=missing(N, C),
            flat=np.zeros((N, C), np.bool_),
            shown=np.full((len(task.shown), C, *size), np.nan, np.float16),
        )

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The classifier's top-1, int64 (N,); −1 where unknown."""
        return self.best[:, 0]

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Which images have been scored, (N,)."""
        return np.asarray(np.isfinite(self.full).all(axis=1))

    def enter(self, pictures: range, other: PictureScores, task: Task) -> None:
        """Take over what another process, or an earlier run, scored of some images.

        Args:
            pictures: Which, of all N.
            other: All N images too.
            task: What was scored.
        """
        here = slice(pictures.start, pictures.stop)
        self.classes[here] = other.classes[here]
        self.best[here] = other.best[here]
        self.full[here] = other.full[here]
        self.masked[:, here] = other.masked[:, here]
        self.numbers[:, here] = other.numbers[:, here]
        self.mean_saliency[here] = other.mean_saliency[here]
        self.flat[here] = other.flat[here]
        drawn = [place for place, index in enumerate(task.shown) if index in pictures]
        self.shown[drawn] = other.shown[drawn]
        self.seconds += other.seconds
