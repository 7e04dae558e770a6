"""Measures of the map alone: complexity and sparseness."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lcam_cli.measures.complexity import Complexity
from lcam_cli.measures.measure import MapScores, Measure
from lcam_cli.measures.sparseness import Sparseness

MAPS = arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    elements=st.floats(0, 1, width=16),
)


def numbers(measure: Measure, V: np.ndarray) -> np.ndarray:
    maps = torch.from_numpy(np.asarray(V, np.float32))
    return measure.numbers(MapScores(maps, torch.ones(len(maps)), {}), 100).numpy()


def gini(v: np.ndarray) -> float:
    """The mean absolute difference of all pairs, over twice the mean: the index's definition."""
    v = v.astype(np.float64).ravel()
    return float(np.abs(v[:, None] - v).mean() / (2 * v.mean()))


def test_by_hand() -> None:
    one_pixel, even, half = [[0, 0], [0, 1]], [[0.5, 0.5], [0.5, 0.5]], [[1, 1], [0, 0]]
    V = np.array([one_pixel, even, half])
    assert numbers(Sparseness(), V).tolist() == [0.75, 0, 0.5]
    assert numbers(Complexity(), V).tolist() == [25, 50, 50]
    assert np.isnan(numbers(Sparseness(), np.zeros((1, 2, 2)))).all()


@given(MAPS)
def test_sparseness_is_the_gini_index(V: np.ndarray) -> None:
    found = numbers(Sparseness(), V)
    for v, number in zip(V, found, strict=True):
        if v.max() > 1e-3:
            assert number == pytest.approx(gini(v), abs=1e-4)
            assert number == pytest.approx(numbers(Sparseness(), v[None] / 2)[0], abs=1e-4)
        elif v.max() == 0:
            assert np.isnan(number)


@given(MAPS)
def test_complexity_is_the_l1_norm_over_the_pixels(V: np.ndarray) -> None:
    expected = [100 * np.abs(v.astype(np.float64)).sum() / v.size for v in V]
    assert numbers(Complexity(), V) == pytest.approx(expected, abs=1e-4)
