"""Who differs from whom on the same images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lcam_cli.measures.average_drop import AverageDrop
from lcam_cli.measures.increase_in_confidence import IncreaseInConfidence
from lcam_cli.measures.measure import MapScores, Measure, Perturbation, Quantity
from lcam_cli.measures.paired import paired


def measured(*low_is_good: bool) -> list[Quantity]:
    """Quantities of which the lowest mean is the best, or the highest."""
    return [Quantity(AverageDrop() if low else IncreaseInConfidence(), 50) for low in low_is_good]


def test_worked_by_hand() -> None:
    # Measure 0: low is good; measure 1: high is good. Two images.
    terms = np.array([[[10.0, 30.0], [1.0, 3.0]], [[20.0, 40.0], [4.0, 6.0]]])
    first, second = paired(terms, measured(True, False), [True, True], seed=0)
    assert [one.mean for one in first] == [20, 2]
    assert [one.mean for one in second] == [30, 5]
    assert first[0].to_best is not None
    assert (first[0].to_best.mean, first[0].to_best.ci95) == (0, (0, 0)), "it is the best"
    # 10 worse on each image alike: whatever is drawn, the difference is 10.
    assert second[0].to_best is not None
    assert second[0].to_best.mean == 10
    assert second[0].to_best.ci95 == (10, 10)
    assert second[0].to_best.significant
    assert first[1].to_best is not None
    assert first[1].to_best.mean == -3


def test_the_same_images_tell_rows_apart_that_their_own_intervals_do_not() -> None:
    rng = np.random.default_rng(0)
    hard = rng.uniform(0, 100, 300)
    terms = np.stack([hard, hard + rng.normal(1, 2, 300)])[:, None]
    best, other = paired(terms, measured(True), [True, True], seed=0)
    assert best[0].ci95[1] > other[0].ci95[0], "the rows' own intervals overlap"
    assert other[0].to_best is not None
    assert other[0].to_best.significant


def test_noise_alone_is_no_difference() -> None:
    rng = np.random.default_rng(1)
    terms = rng.normal(50, 10, (2, 1, 200))
    differences = [row[0].to_best for row in paired(terms, measured(True), [True, True], seed=0)]
    assert not any(d is None or d.significant for d in differences)


def test_the_floor_is_never_the_best_and_can_be_better_than_it() -> None:
    terms = np.array([[[50.0, 50.0]], [[10.0, 10.0]]])
    method, floor = paired(terms, measured(True), [True, False], seed=0)
    assert method[0].to_best is not None
    assert method[0].to_best.mean == 0
    assert floor[0].to_best is not None
    assert floor[0].to_best.mean == -40


@pytest.mark.parametrize("rivals", [[True], [False]])
def test_one_row_has_nothing_to_differ_from(rivals: list[bool]) -> None:
    ((only,),) = paired(np.ones((1, 1, 5)), measured(True), rivals, seed=0)
    assert only.to_best is None


def test_images_without_a_term_count_in_no_row() -> None:
    nan = float("nan")
    # The second row lacks image 1, so the first is a mean of images 0 and 2 too.
    terms = np.array([[[10.0, 99.0, 30.0]], [[20.0, nan, 60.0]]])
    first, second = (row[0] for row in paired(terms, measured(True), [True, True], seed=0))
    assert (first.mean, second.mean) == (20, 40)
    assert first.ci95 == (10, 30)
    assert second.to_best is not None
    assert second.to_best.mean == 20


def test_a_measure_that_no_image_has_is_none_and_ranks_nobody() -> None:
    terms = np.array([[[np.nan] * 3, [1.0] * 3], [[np.nan] * 3, [2.0] * 3]])
    for row in paired(terms, measured(True, True), [True, True], seed=0):
        assert (row[0].mean, row[0].ci95, row[0].to_best) == (None, None, None)
        assert row[1].mean is not None


class BestShare(Measure):
    """No mean over images: the larger of two means, as the best threshold's accuracy is."""

    name = title = "share"
    lower_is_better = False
    parts = 2

    def perturbations(self, nu: float) -> list[Perturbation]:
        return []

    def numbers(self, scores: MapScores, nu: float) -> torch.Tensor:
        return scores.V.flatten(1)[:, :2].T

    def summary(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        return means.max(-1)


def test_a_measure_of_means_takes_them_anew_in_every_resample() -> None:
    rng = np.random.default_rng(2)
    parts = (rng.random((2, 2, 40)) < [[[0.5], [0.6]], [[0.2], [0.3]]]).astype(np.float64)
    quantities = [Quantity(BestShare(), None), *measured(True)]
    terms = np.concatenate([parts, rng.random((2, 1, 40))], axis=1)
    first, second = paired(terms, quantities, [True, True], seed=5)
    assert first[0].mean == parts[0].mean(-1).max()
    draws = np.random.default_rng(5).integers(40, size=(2000, 40))
    shares = parts[:, :, draws].mean(-1).max(1)
    assert first[0].ci95 == pytest.approx(np.percentile(shares[0], [2.5, 97.5]))
    assert second[0].to_best is not None
    expected = np.percentile(shares[1] - shares[0], [2.5, 97.5])
    assert second[0].to_best.ci95 == pytest.approx(expected)
    assert second[1] == paired(terms[:, 2:], measured(True), [True, True], seed=5)[1][0]
