"""What a comparison of maps with those of random weights gives: numbers, and their means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from lcam_cli.measures.bootstrap import bootstrap, defined, interval, mean, percentiles


class Outcome(IntEnum):
    """What came of comparing two maps; of two, the graver is the larger."""

    NUMBER = 0
    FLAT = 1
    """One of them has one value everywhere: it puts no pixel above another."""
    FAILED = 2
    """One of them, or the network's scores, are not numbers; or the method failed."""


@dataclass(frozen=True)
class Similarity:
    """How similar the maps of one method are to its first ones, over all images.

    Attributes:
        mean: The mean of Spearman's ρ, in [-1, 1]; None where no image has one.
        ci95: Its 95% bootstrap interval.
        images: Images that have one.
        flat: Images that have none, since a map has one value everywhere.
        failed: Images that have none, since there is no map.
    """

    mean: float | None
    ci95: tuple[float, float] | None
    images: int
    flat: int = 0
    failed: int = 0


@dataclass(frozen=True)
class ShownPicture:
    """An image with all its maps, for a figure.

    Attributes:
        view: What the network sees of it, uint8 RGB (H, W, 3).
        class_index: The class explained.
        confidence: Its score on the network as trained, in [0, 1].
        maps: By method V (1 + S + 1, H, W), float16: the first one, one a stage, and that of the
            second-best class; NaN where there is none.
    """

    view: NDArray[np.uint8]
    class_index: int
    confidence: float
    maps: dict[str, NDArray[np.float16]]


@dataclass
class SanityNumbers:
    """The outcome of :func:`check_sanity`; N images, M methods, S stages.

    Attributes:
        methods: The methods' names.
        rho: Spearman's ρ, (M, S + 1, N): one a stage, and last that of the second-best class.
        outcomes: Whether it is a number, (M, S + 1, N); else NaN.
        explained: Which images were compared, (N,).
        explains: Which methods gave any map on the network as trained, (M,).
        failures: By method why it failed, where it did on the network as trained.
        shown: Some images with their maps.
    """

    methods: list[str]
    rho: NDArray[np.float64]
    outcomes: NDArray[np.int8]
    explained: NDArray[np.bool_]
    explains: NDArray[np.bool_]
    failures: dict[str, str] = field(default_factory=dict)
    shown: list[ShownPicture] = field(default_factory=list)

    @classmethod
    def empty(cls, methods: Sequence[str], stages: int, pictures: int) -> SanityNumbers:
        """Nothing compared yet."""
        shape = (len(methods), stages + 1, pictures)
        return cls(
            list(methods),
            np.full(shape, np.nan),
            np.full(shape, Outcome.FAILED, np.int8),
            np.zeros(pictures, bool),
            np.zeros(len(methods), bool),
        )

    @property
    def images(self) -> int:
        """How many images were compared."""
        return int(self.explained.sum())

    def similarities(self, seed: int) -> dict[str, list[Similarity]]:
        """By method one a stage, and last that of the second-best class.

        Args:
            seed: Of the bootstrap.
        """
        M, columns, _ = self.rho.shape
        rho = self.rho[:, :, self.explained]
        outcomes = self.outcomes[:, :, self.explained]
        drawn = bootstrap(rho.reshape(M * columns, -1), seed)
        low, high = (bound.reshape(M, columns) for bound in percentiles(drawn.T))
        means = mean(rho)
        return {
            name: [
                Similarity(
                    defined(means[m, c]),
                    interval(low[m, c], high[m, c]),
                    *(int((outcomes[m, c] == outcome).sum()) for outcome in Outcome),
                )
                for c in range(columns)
            ]
            for m, name in enumerate(self.methods)
        }
