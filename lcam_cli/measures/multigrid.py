"""Multigrid for the linear system of imputation: what is smooth is solved on coarser grids.

The unknowns are the removed pixels of an image. A, the matrix of their equations, couples a pixel
with its eight neighbours; it is symmetric, and positive definite as long as one pixel is kept. One
cycle gives nearly A⁻¹r, at the cost of a few passes over the image:

- Jacobi steps remove what of an error changes from pixel to pixel. They leave what is smooth.
- What is smooth is known from every second pixel of every second row. There the equations are
  PᵀAP (Galerkin), P the bilinear interpolation, which is 0 at kept pixels, since they have no
  error. So kept pixels of any shape, also single ones, count on every grid.
- So on, down to a grid so small that its matrix is inverted.

Every grid is stored with one row more below and one column more on the right, where nothing is
unknown. So the neighbours of a place lie at the same distances in memory everywhere, and a sum over
neighbours is a few sums of whole tensors.

Source: Briggs, Henson, McCormick: A Multigrid Tutorial, 2nd edition, SIAM 2000, Chapters 3 and 8.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

_DIRECT = 100
"""A grid of at most so many places is the coarsest."""

_AHEAD = ((0, 1), (1, -1), (1, 0), (1, 1))
"""Four of the eight neighbours, (rows, columns) away. A is symmetric: they stand for all."""

_PIXEL_ENTRIES = (-2, -1, -2, -1)
"""A between a removed pixel and the removed neighbours ahead."""


def bordered(u: Tensor) -> Tensor:
    """Store images (B, C, H, W) as grids are: (B, C, H + 1, W + 1), the new places 0."""
    return F.pad(u, (0, 1, 0, 1))


class Multigrid:
    """A on all grids, of B images at once.

    Args:
        removed: The unknown pixels, bool (B, H, W). In each image at least one is kept, or else
            A has no inverse.

    Attributes:
        pixels: A itself, on the finest grid.
    """

    def __init__(self, removed: Tensor) -> None:
        self.pixels = Pixels(removed)
        self._grids: list[Grid] = [self.pixels]
        while self._grids[-1].unknown[0].numel() > _DIRECT:
            self._grids.append(_coarser(self._grids[-1]))
        self._inverse = _inverse(self._grids[-1])

    def cycle(self, r: Tensor) -> Tensor:
        """Return nearly A⁻¹r, by one V-cycle: a symmetric and positive definite operator on r.

        Args:
            r: (B, C, H + 1, W + 1); what it is at kept pixels does not matter.

        Returns:
            Of the same shape, 0 at kept pixels.
        """
        return self._cycle(r, *self._grids)

    def guess(self, r: Tensor) -> Tensor:
        """Return a first guess of A⁻¹r, from the coarsest grid up (nested iteration).

        Each grid starts from what the next coarser one gives and adds one cycle; the pixels add
        one Jacobi step.

        Args:
            r: As for :meth:`cycle`.

        Returns:
            As there.
        """
        return self._guess(r, *self._grids)

    def _guess(self, r: Tensor, grid: Grid, *coarser: Grid) -> Tensor:
        if not coarser:
            return self._solve(r)
        smooth = self._guess(_restrict(r * grid.unknown, coarser[0].size), *coarser)
        e = _interpolate(smooth, grid.size).mul_(grid.unknown)
        if grid is self.pixels:
            return grid.jacobi(e, r)
        return e.add_(self._cycle(grid.residual(e, r), grid, *coarser))

    def _cycle(self, r: Tensor, grid: Grid, *coarser: Grid) -> Tensor:
        if not coarser:
            return self._solve(r)
        e = r * grid.step
        rest = grid.after_first_step(e, r).mul_(grid.unknown)
        smooth = self._cycle(_restrict(rest, coarser[0].size), *coarser)
        e.addcmul_(_interpolate(smooth, grid.size), grid.unknown)
        return grid.jacobi(e, r)

    def _solve(self, r: Tensor) -> Tensor:
        """A⁻¹r on the coarsest grid."""
        return (r.flatten(2) @ self._inverse).view_as(r)


class Grid(ABC):
    """A on one grid.

    Attributes:
        unknown: Which places are unknown, (B, 1, h, w), 1 or 0 in float32.
        step: What a Jacobi step multiplies residuals by, (B, 1, h, w); 0 at known places.
    """

    unknown: Tensor
    step: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """(h, w), as stored."""
        h, w = self.unknown.shape[2:]
        return h, w

    @abstractmethod
    def minus_product(self, u: Tensor) -> Tensor:
        """−A·u at unknown places, anything at others; u (B, C, h, w) is 0 at known ones."""

    def residual(self, u: Tensor, r: Tensor) -> Tensor:
        """Return r − A·u at unknown places, anything at others."""
        return self.minus_product(u).add_(r)

    def after_first_step(self, u: Tensor, r: Tensor) -> Tensor:
        """Return the same where u is step·r: what a Jacobi step from 0 leaves."""
        return self.residual(u, r)

    def jacobi(self, u: Tensor, r: Tensor) -> Tensor:
        """Take a Jacobi step, u + step·(r − A·u), in place of u."""
        return u.addcmul_(self.residual(u, r), self.step)

    @abstractmethod
    def entries(self) -> Tensor:
        """A of each place with itself and with the neighbours ``_AHEAD``, (B, 5, h, w).

        An entry is 0 where one of the two is known.
        """


class Pixels(Grid):
    """The finest grid: twelve times "each removed pixel is the mean of its neighbours".

    Twelve times, so that the weights 1/6 and 1/12 of direct and diagonal neighbours are 2 and 1.

    Args:
        removed: See :class:`Multigrid`.
    """

    def __init__(self, removed: Tensor) -> None:
        self.unknown = bordered(removed.unsqueeze(1).float())
        # The weight of all neighbours, and the 4 by which _box counts a pixel itself.
        inside = torch.ones(1, 1, *removed.shape[1:], device=removed.device)
        self._middle = _box(bordered(inside))
        # Undamped: of what changes from pixel to pixel, a step leaves at most a third.
        self.step = self.unknown / (self._middle - 4).clamp_(min=1)

    def around(self, u: Tensor) -> Tensor:
        """Sum the neighbours of each pixel, direct ones twice; u is (B, C, h, w)."""
        return _box(u).sub_(u, alpha=4)

    def minus_product(self, u: Tensor) -> Tensor:
        """Its neighbours, less each pixel as often as there are some."""
        return _box(u).addcmul_(u, self._middle, value=-1)

    def after_first_step(self, u: Tensor, r: Tensor) -> Tensor:
        """Undamped, the step solves each equation for its own pixel: the neighbours are left."""
        return self.around(u)

    def jacobi(self, u: Tensor, r: Tensor) -> Tensor:
        """For the same reason the new u does not depend on the old one at the same pixel."""
        return self.around(u).add_(r).mul_(self.step)

    def entries(self) -> Tensor:
        """The neighbours' weights on the diagonal, −2 or −1 between two removed pixels."""
        diagonal = self.unknown * (self._middle - 4)
        entries = torch.cat([diagonal, self.unknown.expand(-1, 4, -1, -1)], 1)
        _keep_unknown(entries, self.unknown)
        entries[:, 1:] *= entries.new_tensor(_PIXEL_ENTRIES).view(1, 4, 1, 1)
        return entries


class Cells(Grid):
    """A coarser grid, where every place has entries of its own.

    Args:
        unknown: See :class:`Grid`.
        entries: See :meth:`Grid.entries`.
    """

    def __init__(self, unknown: Tensor, entries: Tensor) -> None:
        self.unknown = unknown
        self._entries = entries
        flat = entries.neg().flatten(2)
        self._minus_diagonal = flat[:, :1]
        self._minus_ahead = [
            (distance, flat[:, i : i + 1, :-distance])
            for i, distance in enumerate(_distances(unknown), start=1)
        ]
        sums = self._minus_diagonal.abs()
        for distance, entry in self._minus_ahead:
            sums[..., :-distance] += entry.abs()
            sums[..., distance:] += entry.abs()
        # A is at most the diagonal matrix of Σ|row|: below 2/Σ|row| no step can enlarge an error.
        diagonal = entries[:, :1]
        step = torch.minimum(1.8 / sums.view_as(diagonal), 1 / diagonal)
        self.step = torch.where(diagonal > 0, step, 0.0)

    def minus_product(self, u: Tensor) -> Tensor:
        """The product, one distance at a time."""
        flat = u.flatten(2)
        product = flat * self._minus_diagonal
        for distance, entry in self._minus_ahead:
            count = entry.shape[2]
            product.narrow(2, 0, count).addcmul_(entry, flat.narrow(2, distance, count))
            product.narrow(2, distance, count).addcmul_(entry, flat.narrow(2, 0, count))
        return product.view_as(u)

    def entries(self) -> Tensor:
        """As they were given."""
        return self._entries


def _coarser(grid: Grid) -> Cells:
    """PᵀAP on every second place of every second row, and one beyond an even end.

    A cell is unknown where its place is; one beyond an end is where the last place is.
    """
    inside = grid.unknown[..., :-1, :-1]
    unknown = bordered(F.pad(inside, (0, 1, 0, 1), mode="replicate")[..., ::2, ::2])
    h, w = unknown.shape[2:]
    # On NVIDIA GPUs float32 convolutions may round to TF32, with which A may lose its inverse.
    wide = torch.float64 if unknown.is_cuda else unknown.dtype
    kernel = _galerkin().to(unknown.device, wide)
    # Channels last, a convolution of so few channels is the fastest.
    fine = grid.entries().to(wide, memory_format=torch.channels_last)
    coarse = F.conv2d(fine, kernel, stride=2, padding=2).to(unknown.dtype)
    entries = F.pad(coarse, (0, w - coarse.shape[3], 0, h - coarse.shape[2])).contiguous()
    entries *= unknown
    _keep_unknown(entries, unknown)
    return Cells(unknown, entries)


@cache
def _galerkin() -> Tensor:
    """PᵀAP as a convolution, of stride 2, of A's entries: (5, 5, 5, 5), coarse and fine ones first.

    P is the hat p = (½ 1 ½) in both directions. With offsets o from a cell, its entry with the cell
    δ away is Σ p(o)·A(o, o + η)·p(o + η − 2δ), over o and the nine η. Of two opposite η only the
    one ahead is stored, and A(o + η, o) = A(o, o + η).
    """
    directions = ((0, 0), *_AHEAD)
    kernel = torch.zeros(5, 5, 5, 5)
    for coarse, (d0, d1) in enumerate(directions):
        for fine, (n0, n1) in enumerate(directions):
            for o0 in range(-2, 3):
                for o1 in range(-2, 3):
                    share = _hat(o0, o1) * _hat(o0 + n0 - 2 * d0, o1 + n1 - 2 * d1)
                    if fine:
                        share += _hat(o0 + n0, o1 + n1) * _hat(o0 - 2 * d0, o1 - 2 * d1)
                    kernel[coarse, fine, o0 + 2, o1 + 2] = share
    return kernel


def _hat(rows: int, columns: int) -> float:
    return max(0.0, 1 - abs(rows) / 2) * max(0.0, 1 - abs(columns) / 2)


def _keep_unknown(entries: Tensor, unknown: Tensor) -> None:
    """Set entries (B, 5, h, w) to 0 where the neighbour is known."""
    flat, neighbour = entries.flatten(2), unknown.flatten(2)
    for i, distance in enumerate(_distances(unknown), start=1):
        flat[:, i : i + 1, :-distance] *= neighbour[..., distance:]
        flat[:, i : i + 1, -distance:] = 0


def _distances(u: Tensor) -> list[int]:
    """How far away in memory the neighbours ``_AHEAD`` are."""
    return [rows * u.shape[3] + columns for rows, columns in _AHEAD]


def _inverse(grid: Grid) -> Tensor:
    """A⁻¹ as matrices (B, h·w, h·w), 0 in the rows and columns of known places."""
    h, w = grid.size
    units = torch.eye(h * w, device=grid.unknown.device).view(1, h * w, h, w)
    minus = (grid.minus_product(units * grid.unknown) * grid.unknown).flatten(2)
    # Small matrices, once a batch: in float64 on the processor nothing is lost.
    known = torch.diag_embed(1 - grid.unknown.flatten(1)).double().cpu()
    inverse: Tensor = torch.linalg.inv(known - minus.double().cpu()) - known
    return inverse.to(grid.unknown)


def _box(u: Tensor) -> Tensor:
    """Convolve with (1 2 1)ᵀ(1 2 1), zeros outside; u is (B, C, h, w), 0 at its border."""
    return _one_two_one(_one_two_one(u.flatten(2), u.shape[3]), 1).view_as(u)


def _one_two_one(u: Tensor, distance: int) -> Tensor:
    """Twice each value and once those at a distance on both sides: sums of pairs, summed in pairs.

    Args:
        u: (B, C, n), its last values 0.
        distance: Between neighbours.

    Returns:
        (B, C, n), 0 instead of the last values.
    """
    n = u.shape[2]
    sums = u[..., :-distance] + u[..., distance:]
    summed = torch.empty_like(u)
    torch.add(u[..., :distance], sums[..., :distance], out=summed[..., :distance])
    middle = summed[..., distance : n - distance]
    torch.add(sums[..., :-distance], sums[..., distance:], out=middle)
    summed[..., n - distance :] = 0
    return summed


def _interpolate(e: Tensor, size: tuple[int, int]) -> Tensor:
    """P·e, from a grid to the next finer one of (h, w); at known places anything."""
    h, w = size
    return _stretch(_stretch(e, w, -1), h, -2)


def _restrict(r: Tensor, size: tuple[int, int]) -> Tensor:
    """Pᵀr, from a grid, 0 at known places, to the next coarser one of (h, w)."""
    h, w = size
    return _shrink(_shrink(r, h, -2), w, -1)


def _stretch(e: Tensor, length: int, dim: int) -> Tensor:
    """Put the means of two cells between them, along ``dim``."""
    stretched = e.new_empty([*e.shape[:dim], length, *e.shape[dim:][1:]])
    cells, places = e.movedim(dim, -1), stretched.movedim(dim, -1)
    between = length // 2
    places[..., ::2] = cells[..., : length - between]
    torch.lerp(cells[..., :between], cells[..., 1 : between + 1], 0.5, out=places[..., 1::2])
    return stretched


def _shrink(r: Tensor, length: int, dim: int) -> Tensor:
    """The transpose of :func:`_stretch`: what lies between two cells goes to both by halves."""
    shrunk = r.new_zeros([*r.shape[:dim], length, *r.shape[dim:][1:]])
    places, cells = r.movedim(dim, -1), shrunk.movedim(dim, -1)
    at, between = places[..., ::2], places[..., 1::2]
    cells[..., : at.shape[-1]] = at
    cells[..., : between.shape[-1]].add_(between, alpha=0.5)
    cells[..., 1 : between.shape[-1] + 1].add_(between, alpha=0.5)
    return shrunk
