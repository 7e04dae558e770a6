"""RISE: random masks, averaged with the scores of what they let through.

Petsiuk, Das, Saenko: RISE: Randomized Input Sampling for Explanation of Black-box Models, BMVC
2018.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.engine.masked import MaskedForwards
from lcam_cli.errors import LcamError
from lcam_cli.methods.attention import min_max, upsample
from lcam_cli.methods.base import Maps


class Rise:
    """V = ζ(Σ_n score_n·mask_n / (N·p)), the score that of y on the image times mask_n.

    The masks are drawn once, as grids of cells and shifts; the full-size ones are made as they are
    needed, and serve all images of a batch.

    Args:
        masks: N, the forward passes a map costs.
        cells: Cells along each side of a mask.
        p: The chance that a cell is kept, in (0, 1).
        seed: Of the masks.

    Raises:
        LcamError: A value out of its range.
    """

    name = "rise"

    def __init__(self, masks: int = 8000, cells: int = 7, p: float = 0.5, seed: int = 0) -> None:
        for what, value in (("masks", masks), ("cells", cells)):
            if value < 1:
                raise LcamError(f"RISE with {value} {what}", "use at least 1")
        if not 0 < p < 1:
            raise LcamError(f"RISE with p = {p}", "pass the share of cells kept, between 0 and 1")
        self.params: dict[str, Any] = {"masks": masks, "cells": cells, "p": p, "seed": seed}
        self.forward_passes = masks
        self._p = p
        rng = np.random.default_rng(seed)
        self._grids = torch.from_numpy((rng.random((masks, cells, cells)) < p).astype(np.float32))
        # Down and right, as shares of a cell: the same masks at every input size.
        self._shifts = torch.from_numpy(rng.random((masks, 2)))

    @torch.no_grad()
    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """N forward passes an image; the same masks for all."""
        B, _, height, width = forward.x.shape
        forwards = MaskedForwards(engine, forward.x, classes)
        V = forward.x.new_zeros(B, height * width)
        grids = torch.split(self._grids.to(engine.device), forwards.batch_size)
        shifts = torch.split(self._shifts, forwards.batch_size)
        for grid, shift in zip(grids, shifts, strict=True):
            masks = shifted_masks(grid, shift, (height, width))
            scores = forwards.scores((picture, masks) for picture in range(B))
            V.addmm_(scores.view(B, -1), masks.flatten(1))
        return Maps(min_max(V.view(B, height, width) / (self.forward_passes * self._p)))


def shifted_masks(grids: Tensor, shifts: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarge grids by one cell more than the input has, and cut the input's size out of them.

    Args:
        grids: (n, s, s), float32.
        shifts: Where the cut begins, down and right, in [0, 1) of a cell; (n, 2), on the CPU.
        size: (H, W). A cell is ⌈H/s⌉ by ⌈W/s⌉ pixels.

    Returns:
        (n, H, W) on the device of ``grids``.
    """
    rows, columns = (
        _bilinear(grids.shape[1], length, shifts[:, axis]).to(grids.device)
        for axis, length in enumerate(size)
    )
    return rows @ grids @ columns.mT


def _bilinear(cells: int, length: int, shifts: Tensor) -> Tensor:
    """θ along one axis as matrices, one a shift: (n, length, cells).

    Resizing is linear, so its matrix is what it makes of the unit vectors; shifting takes rows.
    """
    cell = -(-length // cells)
    matrix = upsample(torch.eye(cells)[None], ((cells + 1) * cell, cells))[0]
    first = (shifts * cell).long()
    return matrix[first[:, None] + torch.arange(length)]
