"""Weights in half precision: filters of few numbers keep their sums."""

from __future__ import annotations

import pytest
import torch

from lcam_cli.engine.rounding import rounded


def weights(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_what_is_taken_from_one_weight_is_given_to_the_next_smaller() -> None:
    # bf16 has 8 bits: between 1 and 2 it goes in steps of 1/128, between 1/2 and 1 of 1/256.
    step = 1 / 128
    filters = torch.tensor([[1 + 0.4 * step, 0.5, 1.5 + 0.3 * step, 0.25]]).view(1, 1, 2, 2)
    # 1.5 + 0.3 → 1.5, carries 0.3; 1 + 0.7 → 1 + 1, carries −0.3 steps, which is −0.6 of the next
    # size: 0.5 − 0.6 → 0.5 − 0.5 (below 1/2 a step is half as large again), carries −0.05.
    found = rounded(filters, torch.bfloat16).float().flatten().tolist()
    assert found[2] == 1.5
    assert found[0] == 1 + step
    assert sum(found) == pytest.approx(float(filters.sum()), abs=0.05 * step)
    nearest = filters.bfloat16().float().sum()
    assert abs(nearest - filters.sum()) > 0.5 * step


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(64, 1, 3, 3), (32, 3, 3, 3), (16, 1, 5, 5), (8, 3, 7, 7)])
def test_sums_are_kept_and_no_weight_is_far_off(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    w = weights(*shape)
    found, nearest = rounded(w, dtype), w.to(dtype)
    assert found.dtype == dtype

    def off(v: torch.Tensor) -> torch.Tensor:
        return (v.double().sum((2, 3)) - w.double().sum((2, 3))).abs()

    assert off(found).mean() < 0.1 * off(nearest).mean()
    largest = w.abs().amax((2, 3), keepdim=True)
    assert ((found.float() - w).abs() <= largest * torch.finfo(dtype).eps).all()


@pytest.mark.parametrize("shape", [(8, 16, 1, 1), (64, 64, 3, 3), (192, 3, 16, 16), (10, 7), (5,)])
def test_all_other_weights_are_rounded_to_the_nearest(shape: tuple[int, ...]) -> None:
    w = weights(*shape)
    assert torch.equal(rounded(w, torch.bfloat16), w.bfloat16())


def test_the_layout_stays() -> None:
    w = weights(8, 3, 3, 3).contiguous(memory_format=torch.channels_last)
    assert rounded(w, torch.bfloat16).is_contiguous(memory_format=torch.channels_last)


def test_a_constant_picture_goes_through_as_in_float32() -> None:
    w = weights(32, 1, 3, 3)
    x = torch.full((1, 32, 9, 9), 0.7)

    def inner(filters: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(x, filters.float(), groups=32)

    exact = inner(w)
    kept = (inner(rounded(w, torch.bfloat16)) - exact).abs().mean()
    nearest = (inner(w.bfloat16()) - exact).abs().mean()
    assert kept < 0.1 * nearest


def test_what_does_not_fit_stays_as_rounding_to_the_nearest_has_it() -> None:
    """A mask of an attention over small windows is no filter, though it has the shape of one."""
    mask = torch.zeros(4, 1, 4, 4)
    mask[..., 2] = -torch.inf
    assert torch.equal(rounded(mask, torch.bfloat16), mask.bfloat16())
    large = weights(4, 1, 3, 3) * 1e6
    assert torch.equal(rounded(large, torch.float16), large.half())
