"""How a layer's output is read as feature maps A (B, K, P, Q), and A written back in its place.

Convolutions give maps as they are. Transformers give tokens: (B, P, Q, K) where windows shift over
a grid (Swin), or a list (B, n + P·Q, K) of n class tokens and then the patches row by row (ViT).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

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


class OnMaps(nn.Module):
    """A head that takes A (B, K, P, Q), whatever the layout of the layer's output."""

    def __init__(self, layout: Layout, head: nn.Module) -> None:
        super().__init__()
        self._layout = layout
        self.head = head

    def forward(self, output: Tensor) -> Tensor:
        """Logits (B, R) of a layer's output."""
        logits: Tensor = self.head(self._layout.to_maps(output))
        return logits


@dataclass(frozen=True)
class Clues:
    """What tells of a network how its outputs on an image are to be read.

    Attributes:
        size: (H, W) of the image; all squares are alike.
        last: How many numbers its modules take for the channels along a last axis.
    """

    size: tuple[int, int] = (1, 1)
    last: frozenset[int] = frozenset()

    @classmethod
    def of(cls, network: nn.Module, size: tuple[int, int]) -> Clues:
        """Those of a network's norms and linear layers; its last one sees no places."""
        linear = [m.in_features for m in network.modules() if isinstance(m, nn.Linear)]
        norms = [
            weight.shape[0]
            for module in network.modules()
            if isinstance(weight := getattr(module, "weight", None), Tensor)
            and weight.ndim == 1
            and not isinstance(module, nn.modules.batchnorm._BatchNorm | nn.GroupNorm)
        ]
        return cls(size, frozenset((*linear[:-1], *norms)))


_OF_SQUARES = Clues()


def find_layout(
    output: object, grid: tuple[int, int] | None = None, clues: Clues = _OF_SQUARES
) -> Layout | None:
    """Tell how a layer's output on one image is to be read.

    A square image gives P = Q, so of three axes after the batch's the two that agree are places.
    A list of P² tokens is patches alone, one of 1 + P² has a class token before them. Of other
    images P and Q are those of patches as high as wide: H/s and W/s with one s; and the last axis
    is the channels' only where modules of the network take as many.

    Args:
        output: What the layer gave for one image.
        grid: P and Q, where the user says so. Tokens above P·Q then come before the patches.
        clues: What else is known.

    Returns:
        The layout, of at least two places; None where the output has none that is known.
    """
    if not torch.is_tensor(output) or output.shape[:1] != (1,) or output.is_quantized:
        return None
    found = None
    if output.ndim == 4:
        found = _of_four_axes(tuple(output.shape[1:]), grid, clues)
    elif output.ndim == 3:
        found = _of_tokens(output.shape[1], grid, clues.size)
    return found if found is not None and found.P * found.Q > 1 else None


def _of_four_axes(
    axes: tuple[int, ...], grid: tuple[int, int] | None, clues: Clues
) -> Layout | None:
    a, b, c = axes
    if (b, c) == grid or (grid is None and _are_maps(axes, clues)):
        return Layout("maps", b, c)
    if (a, b) == grid or grid is None:
        return Layout("grid", a, b)
    return None


def _are_maps(axes: tuple[int, ...], clues: Clues) -> bool:
    """Whether the places are the last two of three axes, not the first two."""
    a, b, c = axes
    H, W = clues.size
    if H == W:
        return b == c or a != b
    return c not in clues.last or _in_shape(b, c, clues.size) or not _in_shape(a, b, clues.size)


def _of_tokens(count: int, grid: tuple[int, int] | None, size: tuple[int, int]) -> Layout | None:
    if grid is not None:
        prefix = count - grid[0] * grid[1]
        return Layout("list", *grid, prefix) if prefix >= 0 else None
    for prefix in (0, 1):
        if found := _patches_of(count - prefix, size):
            return Layout("list", *found, prefix)
    return None


def _in_shape(P: int, Q: int, size: tuple[int, int]) -> bool:
    """Whether so many rows and columns may be those of an image's places."""
    return any(grid == (P, Q) for grid in _grids_near(size[0] / max(P, 1), size))


def _patches_of(count: int, size: tuple[int, int]) -> tuple[int, int] | None:
    """P and Q of so many patches of an image; None where their number does not fit its shape."""
    H, W = size
    if count < 1:
        return None
    if H == W:
        side = math.isqrt(count)
        return (side, side) if side * side == count else None
    near = _grids_near(math.sqrt(H * W / count), size)
    return next((grid for grid in near if grid[0] * grid[1] == count), None)


def largest_grid(count: int, size: tuple[int, int]) -> tuple[int, int]:
    """The most rows and columns of an image's shape that so many tokens have room for."""
    return next(
        found for n in range(count, 0, -1) if (found := _patches_of(n, size) or (n == 1 and (1, 1)))
    )


def _grids_near(patch: float, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Rows and columns of patches of about so many pixels a side, without a rest or with one."""
    H, W = size
    # A whole patch more or less than H/s is as much as rounding may leave.
    for s in range(max(1, int(patch * 0.6)), int(patch * 1.7) + 2):
        yield H // s, W // s
        yield -(-H // s), -(-W // s)


def parse_grid(text: str) -> tuple[int, int]:
    """Return P and Q of ``"PxQ"``.

    Raises:
        LcamError: It is not two whole numbers from 1.
    """
    match = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", text, re.ASCII)
    if match is None:
        raise LcamError(f"--grid {text!r} is not PxQ", "pass rows and columns, e.g. --grid 14x14")
    return int(match[1]), int(match[2])
