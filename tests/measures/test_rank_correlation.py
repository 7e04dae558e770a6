"""Spearman's rank correlation, against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import rankdata, spearmanr

from lcam_cli.measures.rank_correlation import correlation_of_ranks, ranks


def test_ranks_and_correlations_are_scipy_s_with_ties_too() -> None:
    draw = torch.Generator().manual_seed(0)
    one = torch.rand(5, 224 * 224, generator=draw)
    other = one + torch.rand(one.shape, generator=draw)
    one[1], other[1] = one[1].mul(9).round(), other[1].mul(3).round()  # many ties
    one[2] = one[2].clamp_min(0.8)  # a map that is mostly 0
    other[3] = -one[3]
    other[4, 1:] = 0.25  # all but one value tied
    assert np.array_equal(ranks(one).numpy(), rankdata(one.numpy(), axis=1))
    found = correlation_of_ranks(ranks(one), ranks(other))
    expected = [spearmanr(a, b).statistic for a, b in zip(one.numpy(), other.numpy(), strict=True)]
    assert found.dtype == torch.float64
    assert np.abs(found.numpy() - expected).max() < 1e-6
    assert float(found[3]) == -1


def test_worked_by_hand() -> None:
    # Ranks 1, 2.5, 2.5, 4 and 4, 3, 1, 2: deviations (-1.5, 0, 0, 1.5) and (1.5, .5, -1.5, -.5).
    values = torch.tensor([[0.1, 0.4, 0.4, 0.9], [9.0, 7.0, 1.0, 2.0]])
    assert ranks(values).tolist() == [[1, 2.5, 2.5, 4], [4, 3, 1, 2]]
    rho = correlation_of_ranks(ranks(values[:1]), ranks(values[1:]))
    assert float(rho) == pytest.approx(-3 / (4.5 * 5) ** 0.5)


def test_a_constant_has_no_correlation() -> None:
    flat, other = torch.full((1, 9), 0.5), torch.rand(1, 9)
    assert correlation_of_ranks(ranks(flat), ranks(other)).isnan().all()
    assert correlation_of_ranks(ranks(other), ranks(flat)).isnan().all()
