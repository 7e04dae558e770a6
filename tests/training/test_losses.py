"""The loss terms against values worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lcam_cli.engine.activation import Activation
from lcam_cli.engine.engine import Forward
from lcam_cli.training.losses import (
    MaskedBatch,
    average,
    border_energy,
    cross_entropy,
    reference_total_variation,
    relative_drop,
    total_variation,
    weighted_loss,
)
from lcam_cli.training.recipes import recipe_for

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


def _masked(before: Tensor, after: Tensor, activation: Activation) -> MaskedBatch:
    """Logits (B, R) of images and of masked ones; the labels are 0, 1, ….

    ``before`` is what the frozen classifier gave, without gradients.
    """
    x, A = torch.zeros(len(before), 3, 4, 4), torch.zeros(len(before), 2, 2, 2)
    forward = Forward(x, A, before, activation=activation)
    return MaskedBatch(forward, torch.arange(len(before)), torch.rand(len(before), 2, 2), after)


def test_the_drop_of_softmax_scores() -> None:
    before = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])  # f: 3/4 and 1/2
    after = torch.tensor([[0.0, 0.0], [0.0, math.log(4.0)]], requires_grad=True)  # p: 1/2 and 4/5
    drop = relative_drop(_masked(before, after, "softmax"))
    # (3/4 − 1/2)/(3/4) = 1/3; the second one rises, and loses nothing.
    assert drop.item() == pytest.approx((1 / 3 + 0) / 2)
    drop.backward()
    # ∂p_0/∂z = p_0·(1 − p_0) = 1/4 and −1/4; times −1/f, over the two images.
    expected = [[-1 / 4 / (3 / 4) / 2, 1 / 4 / (3 / 4) / 2], [0, 0]]
    torch.testing.assert_close(after.grad, torch.tensor(expected))


def test_the_drop_of_sigmoid_scores() -> None:
    # f = σ(0) = 1/2 of class 0; the other class does not count.
    before = torch.tensor([[0.0, 5.0]])
    after = torch.tensor([[-math.log(3.0), -9.0]], requires_grad=True)  # p = 1/4
    drop = relative_drop(_masked(before, after, "sigmoid"))
    assert drop.item() == pytest.approx(1 / 2)
    drop.backward()
    # −p(1 − p)/f = −(3/16)/(1/2)
    torch.testing.assert_close(after.grad, torch.tensor([[-3 / 8, 0.0]]))


def test_the_drop_of_scores_that_the_network_gives() -> None:
    before = torch.tensor([[0.8, 0.1], [0.3, 0.4]])
    after = torch.tensor([[0.2, 0.9], [0.0, 0.1]], requires_grad=True)
    drop = relative_drop(_masked(before, after, "none"))
    assert drop.item() == pytest.approx((0.6 / 0.8 + 0.3 / 0.4) / 2)
    drop.backward()
    torch.testing.assert_close(after.grad, torch.tensor([[-0.625, 0], [0, -1.25]]))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_the_drop_is_never_above_1(activation: Activation) -> None:
    generator = torch.Generator().manual_seed(0)
    before = 50 * torch.eye(200) + 9 * torch.randn(200, 200, generator=generator)
    after = (-before).requires_grad_(True)
    drop = relative_drop(_masked(before, after, activation))
    assert 0.9 < drop.item() <= 1
    drop.backward()
    assert after.grad is not None
    assert after.grad.isfinite().all()


@pytest.mark.parametrize(
    ("activation", "nothing"), [("sigmoid", -200.0), ("sigmoid", -95.0), ("none", 0.0)]
)
@pytest.mark.parametrize("after", [-200.0, 0.0, 1.0])
def test_a_picture_of_score_0_has_nothing_to_lose_and_teaches_nothing(
    activation: Activation, nothing: float, after: float
) -> None:
    """σ(−200) is 0, σ(−95) too small to divide by. 0/0 would make the loss of the batch NaN."""
    if activation == "none":
        after = max(after, 0)
    before = torch.tensor([[nothing, 0.0], [0.0, 0.5]])
    shown = torch.tensor([[after, 0.0], [0.0, 0.25]], requires_grad=True)
    drop = relative_drop(_masked(before, shown, activation))
    second = before[1, 1] if activation == "none" else before[1, 1].sigmoid()
    left = 0.25 if activation == "none" else torch.tensor(0.25).sigmoid()
    assert drop.item() == pytest.approx(float((second - left) / second) / 2)
    drop.backward()
    assert shown.grad is not None
    assert shown.grad.isfinite().all()
    assert shown.grad[0].tolist() == [0, 0]
    assert float(shown.grad[1, 1]) < 0


@pytest.mark.parametrize("recipe", ["paper", "reference"])
def test_a_score_of_0_does_no_harm_where_the_drop_has_no_weight(recipe: str) -> None:
    """0 times NaN is NaN."""
    shown = torch.tensor([[-200.0, 1.0]], requires_grad=True)
    masked = _masked(torch.tensor([[-200.0, -300.0]]), shown, "sigmoid")
    loss = weighted_loss(masked, recipe_for(recipe, "resnet50"))
    assert loss.total.isfinite()
    loss.total.backward()
    assert shown.grad is not None
    assert shown.grad[0].tolist() == [pytest.approx(-1.5), 0]
