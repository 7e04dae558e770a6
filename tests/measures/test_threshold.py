"""φ_ν: how many pixels stay, which, and that it is the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lcam_cli.maps.region import kept_pixels
from lcam_cli.measures.threshold import Thresholds, top_percent

# Few distinct values, so that nearly every map has ties at the cut.
LEVELS = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
MAPS = arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    elements=LEVELS | st.floats(0, 1, width=32),
)
NUS = st.floats(0.5, 100)


def top_percents(V: torch.Tensor, nus: list[float]) -> torch.Tensor:
    """φ_ν at several ν, of maps that are sorted once."""
    thresholds = Thresholds(V)
    return torch.stack([thresholds.top_percent(nu) for nu in nus])


def by_sorting(v: np.ndarray, nu: float) -> np.ndarray:
    """φ_ν of one map in plain Python: a stable sort, highest first."""
    flat = v.ravel()
    order = sorted(range(flat.size), key=lambda i: -flat[i])
    keep = order[: round(nu * flat.size / 100)]
    out = np.zeros_like(flat)
    out[keep] = flat[keep]
    return out.reshape(v.shape)


@given(MAPS, NUS)
@settings(deadline=None)
def test_agrees_with_a_stable_sort(v: np.ndarray, nu: float) -> None:
    expected = np.stack([by_sorting(one, nu) for one in v])
    assert np.array_equal(top_percent(torch.from_numpy(v), nu).numpy(), expected)


@given(MAPS, st.lists(NUS, min_size=1, max_size=4))
@settings(deadline=None)
def test_several_at_once_are_the_same_as_one_by_one(v: np.ndarray, nus: list[float]) -> None:
    V = torch.from_numpy(v)
    assert torch.equal(top_percents(V, nus), torch.stack([top_percent(V, nu) for nu in nus]))


@given(MAPS, NUS, NUS)
@settings(deadline=None)
def test_what_stays_at_a_low_nu_stays_at_a_higher_one(v: np.ndarray, a: float, b: float) -> None:
    low, high = top_percents(torch.from_numpy(v), sorted([a, b]))
    assert torch.equal(low, torch.where(low > 0, high, 0.0))
    assert ((low > 0).flatten(1).sum(1) <= (high > 0).flatten(1).sum(1)).all()


def test_worked_by_hand() -> None:
    V = torch.tensor([[[0.1, 0.9], [0.5, 0.3]]])
    assert top_percent(V, 50).tolist() == torch.tensor([[[0, 0.9], [0.5, 0]]]).tolist()
    assert top_percent(V, 25).tolist() == torch.tensor([[[0, 0.9], [0, 0]]]).tolist()


def test_of_ties_the_first_in_reading_order_stay() -> None:
    V = torch.full((1, 2, 3), 0.5)
    V[0, 1, 2] = 1.0
    assert top_percent(V, 50).tolist() == [[[0.5, 0.5, 0], [0, 0, 1.0]]]


def test_exactly_the_share_stays_on_a_flat_map_of_real_size() -> None:
    kept = (top_percents(torch.ones(2, 224, 224), [100, 50, 15]) > 0).flatten(2).sum(2)
    assert kept.tolist() == [[50176] * 2, [25088] * 2, [7526] * 2]


@pytest.mark.parametrize(
    ("nu", "pixels", "kept"),
    [(15, 50176, 7526), (50, 50176, 25088), (50, 5, 2), (50, 7, 4), (1, 10, 0), (100, 9, 9)],
)
def test_how_many_stay(nu: float, pixels: int, kept: int) -> None:
    assert kept_pixels(nu, pixels) == kept


def test_a_share_of_less_than_half_a_pixel_keeps_nothing() -> None:
    assert top_percent(torch.ones(1, 3, 3), 1).sum() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_keep_theirs_and_their_values(dtype: torch.dtype) -> None:
    V = (torch.arange(16).reshape(1, 4, 4) / 16).to(dtype)
    kept = top_percent(V, 25)
    assert kept.dtype == dtype
    assert torch.equal(kept.flatten()[12:], V.flatten()[12:])
    assert kept.flatten()[:12].sum() == 0


def test_leaves_its_input_alone_even_at_100() -> None:
    V = torch.rand(2, 4, 4)
    before = V.clone()
    Thresholds(V).top_percent(100).zero_()
    assert torch.equal(V, before)


@given(MAPS, NUS)
@settings(deadline=None)
def test_the_pixels_kept_whole_are_as_many_as_nu_says_whatever_their_values(
    v: np.ndarray, nu: float
) -> None:
    V = torch.from_numpy(v)
    kept = Thresholds(V).is_kept(nu)
    assert (kept.flatten(1).sum(1) == kept_pixels(nu, V[0].numel())).all()
    for one, mask in zip(v, kept.numpy(), strict=True):
        order = sorted(range(one.size), key=lambda i: -one.flat[i])
        assert sorted(np.flatnonzero(mask)) == sorted(order[: mask.sum()])
    assert torch.equal(V * kept, top_percent(V, nu))
