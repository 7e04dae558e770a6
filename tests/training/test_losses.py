"""The loss terms against values worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from lcam_cli.training.losses import (
    average,
    border_energy,
    cross_entropy,
    reference_total_variation,
    total_variation,
)

S = torch.tensor([[[0.0, 1.0], [0.25, 0.5]]])


def test_average_is_the_mean_of_powers() -> None:
    # (0 + 1 + 0.25^0.5 + 0.5^0.5) / 4
    assert average(S, 0.5) == pytest.approx((1 + 0.5 + math.sqrt(0.5)) / 4)
    assert average(S, 1.0, epsilon=0.1) == pytest.approx((0.1 + 1.1 + 0.35 + 0.6) / 4)


def test_total_variation_sums_squared_differences_of_neighbours() -> None:
    # down: (0.25-0)² + (0.5-1)² = 0.3125; across: 1² + 0.25² = 1.0625
    assert total_variation(S, 1) == pytest.approx(1.375)
    # Two maps in a batch of two: the mean of 1.375 and 0.
    assert total_variation(torch.cat([S, torch.ones_like(S)]), 2) == pytest.approx(0.6875)


def test_the_authors_total_variation_adds_the_border_and_halves() -> None:
    # rows: 0²+1² and 0.25²+0.5²; columns: 0²+0.25² and 1²+0.5² : each corner counts twice
    border = 1 + 0.3125 + 0.0625 + 1.25
    assert border_energy(S, 1) == pytest.approx(border)
    assert reference_total_variation(S, 1) == pytest.approx((1.375 + 0.3 * border) / 2)


def test_cross_entropy_is_minus_the_log_of_the_softmax_score() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    # scores of the labels: 3/4 and 1/2
    expected = (math.log(4 / 3) + math.log(2)) / 2
    assert cross_entropy(logits, torch.tensor([1, 0])) == pytest.approx(expected)
