"""What a run starts from: the frozen classifier, and what it makes of some of the images."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.images.stream import stream_batches
from lcam_cli.training.nonfinite import nothing_to_learn_from
from lcam_cli.training.rows import (
    FreeRows,
    Rows,
    SharedRows,
    classifier_rows,
    feature_scale,
    random_rows,
)
from lcam_cli.training.settings import TrainingSettings

_PICTURES = 256
_PICTURES_FOR_CLASSIFIER_ROWS = 4
_KEPT_BYTES = 1 << 29
"""What passes may take that are kept for the next who asks: all of usual images."""


@dataclass(frozen=True)
class StartingData:
    """What the start of a mode may look at.

    Several look at the first images; each passes through the network once, as far as passes can
    be kept.

    Attributes:
        engine: The engine with the frozen classifier.
        paths: All images of the run.
        settings: Those of the run.
    """

    engine: Engine
    paths: Sequence[str]
    settings: TrainingSettings
    _kept: list[Forward] = field(default_factory=list, init=False, repr=False)

    def classifier_rows(self) -> Tensor:
        """W0 (R, K) on the CPU, from a few images: :func:`~.rows.classifier_rows`."""
        first = next(self.forwards())
        return classifier_rows(self.engine, first.x[:_PICTURES_FOR_CLASSIFIER_ROWS]).cpu()

    def forwards(self) -> Iterator[Forward]:
        """Passes over enough images to know how large the features are, a batch each."""
        kept = self._kept
        yield from kept
        rest: Iterator[Forward] = self._passes
        if self._is_full:  # what was passed, and not kept, passes again
            rest = itertools.islice(self._forwards(_PICTURES), len(kept), None)
        for forward in rest:
            if not self._is_full:
                kept.append(forward)
            yield forward

    @property
    def _is_full(self) -> bool:
        return sum(map(_bytes, self._kept)) > _KEPT_BYTES

    def features(self) -> Iterator[Tensor]:
        """Feature maps (B, K, P, Q) of those images."""
        return (forward.A for forward in self.forwards())

    def close(self) -> None:
        """Stop reading images."""
        self._passes.close()

    @cached_property
    def _passes(self) -> Generator[Forward]:
        return self._forwards(_PICTURES)

    def _forwards(self, count: int) -> Generator[Forward]:
        """Passes over ``count`` images in all, chosen by the seed; fewer where some are left out.

        Raises:
            LcamError: None of them can be read, or has scores that are numbers.
        """
        engine, settings = self.engine, self.settings
        order = np.random.default_rng([settings.seed]).permutation(len(self.paths))
        any_nonfinite = False
        # The first so many alone, unless none of them is of use.
        for first in range(0, len(order), count):
            stream = stream_batches(
                [self.paths[i] for i in order[first : first + count]],
                engine.backbone.preprocess,
                min(count, engine.batch_size),
                workers=settings.workers,
                max_pixels=settings.max_pixels,
            )
            found = False
            with contextlib.closing(stream):
                for batch in stream:
                    if not batch.indices:
                        continue
                    forward = _forward(engine, engine.pixels(batch.images))
                    finite = forward.finite
                    any_nonfinite = any_nonfinite or not finite.all()
                    if finite.any():
                        found = True
                        # Anew, so that a run is to the last bit that of the others alone.
                        yield forward if finite.all() else _forward(engine, forward.x[finite])
            if found:
                return
        raise nothing_to_learn_from(engine, len(self.paths), any_nonfinite)


def start_rows(data: StartingData) -> Rows:
    """Begin a run of L-CAM: the rows as its recipe has them."""
    recipe, backbone = data.settings.recipe, data.engine.backbone
    K, R = backbone.feature_shape[0], backbone.num_classes
    if recipe.init == "random":
        W, b = random_rows(R, K, data.settings.seed)
    else:
        W, b = data.classifier_rows(), torch.zeros(R)
    if recipe.rows == "free":
        return FreeRows(W, b, sparse=not (recipe.momentum or recipe.weight_decay))
    return SharedRows(W, feature_scale(data.features()).cpu(), recipe.kernel)


def _bytes(forward: Forward) -> int:
    """What a pass that is kept takes."""
    kept = (forward.x, forward.A, forward.logits, *forward.others.values(), *forward.around)
    return sum(t.element_size() * t.numel() for t in {id(t): t for t in kept}.values())


def _forward(engine: Engine, x: Tensor) -> Forward:
    """A pass over images; the random state stays as it is."""
    with torch.random.fork_rng([engine.device] if engine.device.type == "cuda" else []):
        return engine.forward(x)
