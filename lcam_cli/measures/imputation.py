"""Linear imputation: removed pixels become the weighted mean of their neighbours.

Rong, Leemann, Borisov, Kasneci, Kasneci: A Consistent and Efficient Evaluation Strategy for
Attribution Methods, ICML 2022, Section 4.2, and the authors' code. There a sparse solver takes the
images one by one; here a batch is solved at once on the device, by conjugate gradients with a
multigrid cycle as preconditioner.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lcam_cli.measures.multigrid import Multigrid, bordered

TOLERANCE = 1e-4
"""How far a pixel may be from the exact solution, where images are in [0, 1]."""

_LEAST_RATE, _MOST_RATE = 0.1, 0.9
"""What share of an error a step is taken to leave, at least and at most."""

_MOST_STEPS = 200
"""Far more than there ever are: three to six."""

_AT_ONCE = {"cpu": 8}
"""Pictures solved at once: on a processor so few that they stay in its caches."""

_AT_ONCE_ELSEWHERE = 64


@torch.no_grad()
def impute(x: Tensor, removed: Tensor) -> Tensor:
    """Replace removed pixels by the weighted mean of their eight neighbours.

    Direct neighbours weigh 1/6, diagonal ones 1/12; at the image's edge, those that there are
    share the weight. Neighbours may be removed as well: the means of an image hold all at once, as
    one linear system. An image of which nothing is kept becomes its mean colour (the paper leaves
    that case open).

    Args:
        x: Images, float32 (B, C, H, W) in [0, 1].
        removed: Which pixels are to be replaced, bool (B, H, W), of any shape.

    Returns:
        float32 (B, C, H, W), in the layout of ``x``: kept pixels as they were, removed ones within
        ``TOLERANCE`` of the exact solution.
    """
    count = _AT_ONCE.get(x.device.type, _AT_ONCE_ELSEWHERE)
    imputed = torch.empty_like(x)
    parts = (torch.split(given, count) for given in (x, removed, imputed))
    for some, gone, into in zip(*parts, strict=True):
        into.copy_(_impute(some.contiguous(), gone))
    return imputed


@torch.inference_mode()
def _impute(x: Tensor, removed: Tensor) -> Tensor:
    kept = (~removed).unsqueeze(1).to(x.dtype)
    count = kept.sum((2, 3), keepdim=True)
    mean = (x * kept).sum((2, 3), keepdim=True) / count
    mean = torch.where(count > 0, mean, x.mean((2, 3), keepdim=True))
    solvable = removed & (count > 0).squeeze(1)
    # About the mean of what is kept: numbers near 0 lose the least to rounding.
    solved = _solve((x - mean).mul_(kept), solvable)
    return (x * kept).addcmul_(solved.add_(mean), 1 - kept)


def _solve(known: Tensor, removed: Tensor) -> Tensor:
    """Solve A·u = b by preconditioned conjugate gradients, each channel of an image by itself.

    Args:
        known: The kept pixels, 0 elsewhere, (B, C, H, W).
        removed: The unknown ones, bool (B, H, W), in no image all.

    Returns:
        u, (B, C, H, W), 0 where nothing is removed.
    """
    grids = Multigrid(removed)
    b = grids.pixels.around(bordered(known))
    u = grids.guess(b)
    r = grids.pixels.residual(u, b)
    direction, size = torch.zeros_like(r), r.new_ones(*r.shape[:2], 1, 1)
    before = r.new_full((len(r), 1, 1, 1), torch.inf)
    active = torch.ones_like(before)
    for _ in range(_MOST_STEPS):
        z = grids.cycle(r)
        last, size = size, _dot(r, z)
        direction = z.addcmul_(direction, _ratio(size, last))
        minus_image = grids.pixels.minus_product(direction)
        # An image that is done stays as it is: so it does not depend on the others of its batch.
        length = _ratio(size, -_dot(direction, minus_image)) * active
        u.addcmul_(direction, length)
        r.addcmul_(minus_image, length)
        step = (length * direction.abs().amax((2, 3), keepdim=True)).amax(1, keepdim=True)
        active *= _far(step, before)
        before = step
        if not active.any():
            # One Jacobi step more costs next to nothing, since r is there.
            return u.addcmul_(r, grids.pixels.step)[..., :-1, :-1]
    raise ArithmeticError(f"the imputation of an image took over {_MOST_STEPS} steps")


def _far(step: Tensor, before: Tensor) -> Tensor:
    """Whether pixels may still be too far from the solution after a step, (B, 1, 1, 1), 1 or 0.

    Every step leaves about the same share of the error, so that all the steps to come add up to a
    geometric series. Half of the tolerance is kept for what this estimate misses.
    """
    rate = (step / before).clamp(_LEAST_RATE, _MOST_RATE)
    return (step * rate / (1 - rate) > TOLERANCE / 2).to(step.dtype)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """(B, C, 1, 1)."""
    return (a * b).sum((2, 3), keepdim=True)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """a/b; 0 where b is, since there nothing is left to solve."""
    return torch.where(b > 0, a / b, 0.0)
