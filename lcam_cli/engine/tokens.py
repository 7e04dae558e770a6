"""How a layer's output is read as feature maps A (B, K, P, Q), and A written back in its place.

Convolutions give maps as they are. Transformers give tokens: (B, P, Q, K) where windows shift over
a grid (Swin), or a list (B, n + P·Q, K) of n class tokens and then the patches row by row (ViT).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lcam_cli.errors import LcamError


@dataclass(frozen=True)
class Layout:
    """Where the places and the channels lie in a layer's output.

    Attributes:
        kind: ``"maps"`` for (B, K, P, Q), ``"grid"`` for (B, P, Q, K), ``"list"`` for
            (B, n + P·Q, K).
        P: Rows of places.
        Q: Places a row.
        prefix: n, the tokens before those of the places; they belong to no place.
    """

    kind: Literal["maps", "grid", "list"]
    P: int
    Q: int
    prefix: int = 0

    def to_maps(self, output: Tensor) -> Tensor:
        """A (B, K, P, Q) of a layer's output; a view of it."""
        if self.kind == "maps":
            return output
        if self.kind == "grid":
            return output.permute(0, 3, 1, 2)
        patches = output[:, self.prefix :].transpose(1, 2)
        return patches.reshape(*patches.shape[:2], self.P, self.Q)

    def to_output(self, A: Tensor, output: Tensor | None = None) -> Tensor:
        """A layer's output with A (B, K, P, Q) in the place of its own.

        Args:
            A: The feature maps.
            output: What the layer gave; needed where there is a ``prefix``, which stays as it was.
        """
        if self.kind == "maps":
            return A
        if self.kind == "grid":
            return A.permute(0, 2, 3, 1)
        patches = A.flatten(2).transpose(1, 2)
        if not self.prefix:
            return patches
        assert output is not None
        return torch.cat([output[:, : self.prefix].to(patches.dtype), patches], dim=1)


def find_layout(output: object, grid: tuple[int, int] | None = None) -> Layout | None:
    """Tell how a layer's output on one square picture is to be read.

    A square picture gives P = Q, so of three axes after the batch's the two that agree are places.
    A list of P² tokens is patches alone, one of 1 + P² has a class token before them.

    Args:
        output: What the layer gave for one picture.
        grid: P and Q, where the user says so. Tokens above P·Q then come before the patches.

    Returns:
        The layout, of at least two places; None where the output has none that is known.
    """
    if not torch.is_tensor(output) or output.shape[:1] != (1,) or output.is_quantized:
        return None
    found = None
    if output.ndim == 4:
        found = _of_four_axes(tuple(output.shape[1:]), grid)
    elif output.ndim == 3:
        found = _of_tokens(output.shape[1], grid)
    return found if found is not None and found.P * found.Q > 1 else None


def _of_four_axes(axes: tuple[int, ...], grid: tuple[int, int] | None) -> Layout | None:
    a, b, c = axes
    if (b, c) == grid or (grid is None and (b == c or a != b)):
        return Layout("maps", b, c)
    if (a, b) == grid or grid is None:
        return Layout("grid", a, b)
    return None


def _of_tokens(count: int, grid: tuple[int, int] | None) -> Layout | None:
    if grid is not None:
        prefix = count - grid[0] * grid[1]
        return Layout("list", *grid, prefix) if prefix >= 0 else None
    for prefix in (0, 1):
        side = math.isqrt(max(count - prefix, 0))
        if side * side == count - prefix:
            return Layout("list", side, side, prefix)
    return None


def parse_grid(text: str) -> tuple[int, int]:
    """Return P and Q of ``"PxQ"``.

    Raises:
        LcamError: It is not two whole numbers from 1.
    """
    match = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", text, re.ASCII)
    if match is None:
        raise LcamError(f"--grid {text!r} is not PxQ", "give rows and columns, e.g. --grid 14x14")
    return int(match[1]), int(match[2])
