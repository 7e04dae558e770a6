"""Eq. 3 and 9 by hand, and what they cost."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lcam_cli.engine.grid import Grid
from lcam_cli.methods.attention import (
    Attention,
    class_activation_map,
    min_max,
    saliency_map,
    upsample,
)


def test_the_map_is_the_weighted_sum_of_the_feature_maps() -> None:
    A = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]], [[[5.0, 6.0]], [[7.0, 8.0]]]])
    attention = Attention(
        torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, -1.0]]), torch.tensor([0.5, 0.0, -1.0])
    )
    L = attention(A, torch.tensor([2, 0]))
    # picture 0, class 2: 2·(1, 2) − (3, 4) − 1; picture 1, class 0: (5, 6) + 0.5
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
