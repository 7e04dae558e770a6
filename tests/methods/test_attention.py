"""Eq. 3 and 9 by hand, and what they cost."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lcam_cli.engine.grid import Grid
from lcam_cli.methods.attention import (
    Attention,
    class_activation_map,
    is_kernel,
    min_max,
    saliency_map,
    spread,
    upsample,
)


def test_the_map_is_the_weighted_sum_of_the_feature_maps() -> None:
    A = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]], [[[5.0, 6.0]], [[7.0, 8.0]]]])
    attention = Attention(
        torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, -1.0]]), torch.tensor([0.5, 0.0, -1.0])
    )
    L = attention(A, torch.tensor([2, 0]))
    # image 0, class 2: 2·(1, 2) − (3, 4) − 1; image 1, class 0: (5, 6) + 0.5
    assert torch.equal(L, torch.tensor([[[-2.0, -1.0]], [[5.5, 6.5]]]))


def test_min_max_and_upsampling() -> None:
    L = torch.tensor([[[-2.0, 0.0], [2.0, 6.0]], [[3.0, 3.0], [3.0, 3.0]]])
    scaled = min_max(L)
    assert torch.equal(scaled[0], torch.tensor([[0.0, 0.25], [0.5, 1.0]]))
    assert torch.equal(scaled[1], torch.zeros(2, 2)), "a constant map becomes zeros"
    # Bilinear with half-pixel centres: 0, 1 stretched to four pixels.
    row = upsample(torch.tensor([[[0.0, 1.0]]]), (1, 4))
    assert torch.allclose(row, torch.tensor([[[0.0, 0.25, 0.75, 1.0]]]))


@given(
    values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=12, max_size=12),
    scale=st.floats(0.01, 100),
    shift=st.floats(-100, 100),
)
def test_saliency_is_in_zero_to_one_and_blind_to_scale(
    values: list[float], scale: float, shift: float
) -> None:
    L = torch.tensor(values, dtype=torch.float64).reshape(1, 3, 4)
    V = saliency_map(L, 16)
    assert V.shape == (1, 16, 16)
    assert float(V.min()) >= 0
    assert float(V.max()) <= 1 + 1e-9
    if float(L.max() - L.min()) > 1e-3:
        assert torch.allclose(V, saliency_map(L * scale + shift, 16), atol=1e-5)


@pytest.mark.parametrize("R", [3, 100_000])
def test_only_the_selected_rows_are_touched(R: int) -> None:
    W = torch.full((R, 2), torch.nan)
    W[1] = torch.tensor([1.0, 1.0])
    A = torch.ones(1, 2, 3, 3)
    L = class_activation_map(A, W[torch.tensor([1])])
    assert torch.equal(L, torch.full((1, 3, 3), 2.0))


@given(cells=st.integers(2, 9), step=st.integers(1, 9))
def test_a_grid_that_tiles_the_pixels_is_the_ordinary_resize(cells: int, step: int) -> None:
    maps = torch.rand(2, cells, cells, generator=torch.Generator().manual_seed(cells))
    tiling = Grid((step - 1) / 2, step)
    torch.testing.assert_close(
        upsample(maps, cells * step, tiling), upsample(maps, cells * step), atol=1e-6, rtol=0
    )


def test_a_grid_puts_cells_where_they_lie() -> None:
    # Centres at pixels 0 and 4; level beyond the last.
    row = upsample(torch.tensor([[[0.0, 1.0]]]), (1, 6), Grid(0, 4))
    assert row[0, 0].tolist() == [0, 0.25, 0.5, 0.75, 1, 1]


def _spread_cell_by_cell(L: Tensor, kernel: Tensor) -> Tensor:
    """Each cell from its neighbours; beyond an edge lies what lies on it."""
    found, m = torch.zeros_like(L), len(kernel) // 2
    B, P, Q = L.shape
    for at in ((b, p, q) for b in range(B) for p in range(P) for q in range(Q)):
        b, p, q = at
        for i, row in enumerate(kernel.tolist()):
            for j, weight in enumerate(row):
                down = min(max(p + i - m, 0), P - 1)
                across = min(max(q + j - m, 0), Q - 1)
                found[at] += weight * L[b, down, across]
    return found


@pytest.mark.parametrize(("P", "Q"), [(7, 7), (4, 9), (2, 3), (1, 5), (1, 1)])
@pytest.mark.parametrize("side", [1, 3, 5])
def test_a_kernel_weighs_neighbours_and_repeats_the_edges(P: int, Q: int, side: int) -> None:
    """Also where the map is smaller than the kernel."""
    generator = torch.Generator().manual_seed(P + Q)
    L = torch.randn(2, P, Q, generator=generator, dtype=torch.float64)
    kernel = torch.randn(side, side, generator=generator)
    expected = _spread_cell_by_cell(L, kernel)
    torch.testing.assert_close(spread(L, kernel), expected, atol=1e-12, rtol=0)


def test_a_kernel_worked_by_hand() -> None:
    L = torch.tensor([[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]])
    # What lies to the left of a cell, twice what lies below it: not turned around.
    kernel = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    expected = [[0 + 6, 0 + 8, 1 + 10], [3 + 6, 3 + 8, 4 + 10]]
    assert spread(L, kernel)[0].tolist() == expected


def test_no_kernel_and_a_kernel_of_one_cell() -> None:
    L = torch.randn(2, 3, 4)
    assert spread(L, None) is L
    assert torch.equal(spread(L, torch.tensor([[1.0]])), L)
    assert torch.equal(spread(L, torch.tensor([[-2.0]])), -2 * L)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@given(P=st.integers(1, 20), Q=st.integers(1, 20), side=st.sampled_from([1, 3, 5, 7]))
def test_a_flat_map_stays_flat(dtype: torch.dtype, P: int, Q: int, side: int) -> None:
    """To the last bit: ζ would blow up any difference."""
    generator = torch.Generator().manual_seed(31 * P + Q)
    L = torch.randn(2, 1, 1, generator=generator).expand(2, P, Q).to(dtype)
    found = spread(L, torch.randn(side, side, generator=generator))
    assert found.dtype == dtype
    assert (min_max(found) == 0).all()


def test_gradients_reach_the_map_and_the_kernel() -> None:
    L = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(spread, (L, kernel))


def test_which_tensors_are_kernels() -> None:
    assert all(is_kernel(torch.ones(n, n)) for n in (1, 3, 5, 7))
    for shape in ((2, 2), (0, 0), (3, 5), (5, 3), (9,), (), (1, 3, 3)):
        assert not is_kernel(torch.ones(shape)), shape


def test_an_attention_with_a_kernel_is_eq3_and_then_the_kernel() -> None:
    generator = torch.Generator().manual_seed(0)
    A = torch.rand(3, 6, 4, 5, generator=generator)
    W, b = torch.randn(4, 6, generator=generator), torch.randn(4, generator=generator)
    kernel = torch.randn(3, 3, generator=generator)
    y = torch.tensor([2, 0, 2])
    L = torch.stack(
        [sum(W[c, k] * a[k] for k in range(6)) + b[c] for a, c in zip(A, y.tolist(), strict=True)]
    )
    expected = _spread_cell_by_cell(L, kernel)
    for attention in (Attention(W, b, kernel), Attention(W, b, kernel).to(torch.device("cpu"))):
        torch.testing.assert_close(attention(A, y), expected, atol=1e-5, rtol=1e-5)
    plain = Attention(W, b)
    assert plain.tensors().keys() == {"weight", "bias"}
    torch.testing.assert_close(plain(A, y), L, atol=1e-5, rtol=1e-5)
