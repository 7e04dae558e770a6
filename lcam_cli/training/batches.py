"""The batches of a run: in which order, and which of their images each rank takes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.images.stream import Batch, no_pictures, stream_training
from lcam_cli.scale.rank_info import RankInfo
from lcam_cli.training.modes import find_mode
from lcam_cli.training.settings import TrainingSettings
from lcam_cli.training.shown import DRAWS


def share_of_batches(settings: TrainingSettings, rank_info: RankInfo) -> range:
    """Return the places in every batch whose images this rank takes.

    Raises:
        LcamError: The ranks together would not do what one process does.
    """
    size, batch = rank_info.size, settings.recipe.batch_size
    if size == 1:
        return range(batch)
    why = find_mode(settings.mode).single_process
    if settings.recipe.all_pairs:
        why = f"recipe {settings.recipe.name} pairs every image of a batch with every other"
    if settings.recipe.dropout:
        why = "its dropout would differ from that of one process"
    if why:
        raise LcamError(
            f"mode {settings.mode} cannot be trained with {size} ranks: {why}",
            "train it in one process",
        )
    if batch < size:
        raise LcamError(
            f"a batch of {batch} images has less than one image for each of {size} ranks",
            "use a larger --batch-size, or fewer ranks",
        )
    return range(rank_info.rank * batch // size, (rank_info.rank + 1) * batch // size)


class TrainingBatches:
    """The batches of every epoch, this rank's share of each.

    Args:
        paths: The images, N of them.
        preprocess: The classifier's.
        settings: Recipe, seed, and how images are read.
        rank_info: Where this process stands.

    Raises:
        LcamError: As :func:`share_of_batches`.
    """

    def __init__(
        self,
        paths: Sequence[str],
        preprocess: Preprocess,
        settings: TrainingSettings,
        rank_info: RankInfo,
    ) -> None:
        self._paths = paths
        self._preprocess = preprocess
        self._settings = settings
        self._size = settings.recipe.batch_size
        self._share = share_of_batches(settings, rank_info)
        self._ranks = rank_info.size

    def __len__(self) -> int:
        """Batches an epoch."""
        return math.ceil(len(self._paths) / self._size)

    def of_epoch(self, epoch: int, first: int) -> Iterator[tuple[int, Batch]]:
        """Yield this rank's share of an epoch's batches, from ``first`` on, with their numbers.

        The last may have no image for it.
        """
        settings, recipe = self._settings, self._settings.recipe
        stream = stream_training(
            self._paths,
            self._preprocess,
            len(self._share),
            order=self._shared_order(epoch),
            seed=settings.seed,
            epoch=epoch,
            flip=recipe.flip,
            centre=recipe.alternate and epoch % 2 == 0,
            workers=settings.workers,
            start_batch=first,
            max_pixels=settings.max_pixels,
        )
        with contextlib.closing(stream):
            for number in range(first, len(self)):
                yield number, next(stream, None) or no_pictures(self._preprocess)

    def draws(self, epoch: int, indices: Sequence[int]) -> Tensor:
        """Random numbers of some images in an epoch, (B, 2), uniform in [0, 1).

        They are an image's own: the same whatever batch, part of a batch or rank it is in.
        """
        seed = self._settings.seed
        own = [np.random.default_rng([seed, epoch, i, 1]).random(DRAWS) for i in indices]
        return torch.tensor(np.array(own).reshape(-1, DRAWS), dtype=torch.float32)

    def pictures_of(self, epoch: int, number: int, batch: Batch) -> list[str]:
        """The images of a step, those of all ranks; alone, those that could be read."""
        first = number * self._size
        here = self._order(epoch)[first:][: self._size] if self._ranks > 1 else batch.indices
        return [self._paths[i] for i in here]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([self._settings.seed, epoch]).permutation(len(self._paths))

    def _shared_order(self, epoch: int) -> list[int]:
        """What a rank takes of each batch, one after the other; only the last may be short."""
        order = self._order(epoch).tolist()
        batches = (order[at : at + self._size] for at in range(0, len(order), self._size))
        return [index for one in batches for index in one[self._share.start : self._share.stop]]
