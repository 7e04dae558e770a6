"""AD and IC: worked by hand, against another library, and what must hold for any scores."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from lcam_cli.errors import LcamError
from lcam_cli.measures.average_drop import AverageDrop
from lcam_cli.measures.bootstrap import bootstrap, percentiles
from lcam_cli.measures.increase_in_confidence import IncreaseInConfidence
from lcam_cli.measures.measure import Kept, MapScores, quantities
from lcam_cli.measures.registry import make_measures
from lcam_cli.measures.score import Score
from lcam_cli.measures.summary import Summary

SCORES = arrays(
    np.float32,
    st.tuples(st.just(3), st.integers(1, 20)),
    elements=st.just(0.0) | st.floats(2**-20, 1, width=32),
)


drop = AverageDrop().compare


def increase(full: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
    return IncreaseInConfidence().compare(full, masked) == 100


class NuScore:
    """AD and IC at one ν."""

    def __init__(self, ad: Score, ic: Score) -> None:
        self.ad, self.ad_ci95 = ad.mean, ad.ci95
        self.ic, self.ic_ci95 = ic.mean, ic.ci95


class Gathered(Summary):
    """AD and IC of scores, without maps."""

    def __init__(self, nus: Sequence[float]) -> None:
        self.nus = nus
        super().__init__(quantities(make_measures(), nus))

    def add(
        self, full: torch.Tensor, masked: torch.Tensor, images: Sequence[int] | None = None
    ) -> None:
        kept = {Kept(nu): scores for nu, scores in zip(self.nus, masked, strict=True)}
        self.update(MapScores(torch.empty(len(full), 0, 0), full, kept), images)

    def summary(self) -> dict[float, NuScore]:
        return {nu: NuScore(at["ad"], at["ic"]) for nu, at in self.scores().nu.items()}


def scored(full: list[float], *masked: list[float]) -> Gathered:
    measure = Gathered([100, 50, 15][: len(masked)])
    measure.add(torch.tensor(full), torch.tensor(masked))
    return measure


def test_worked_by_hand() -> None:
    # Drops 50%, 0 (it rose), 75%, 0 (unchanged); one of four rose.
    score = scored([0.8, 0.5, 0.4, 0.25], [0.4, 0.6, 0.1, 0.25]).summary()[100]
    assert score.ad == pytest.approx((50 + 0 + 75 + 0) / 4)
    assert score.ic == 25.0


def test_each_nu_is_scored_by_itself() -> None:
    summary = scored([0.5, 0.5], [0.5, 1.0], [0.25, 0.5], [0.0, 0.0]).summary()
    assert {nu: (s.ad, s.ic) for nu, s in summary.items()} == {
        100: (0.0, 50.0),
        50: (25.0, 0.0),
        15: (100.0, 0.0),
    }


def test_of_no_confidence_the_drop_is_undefined_and_the_increase_is_not() -> None:
    full, masked = torch.tensor([0.0, 0.0, 0.5]), torch.tensor([0.0, 0.5, 0.25])
    lost = drop(full, masked)
    assert lost.isnan().tolist() == [True, True, False]
    assert lost[2] == 50
    assert increase(full, masked).tolist() == [False, True, False]


def test_rows_of_no_confidence_are_left_out_of_ad_and_counted() -> None:
    # Drops 50% and 100%, and one of 0/0; IC: one of three rises.
    measure = scored([0.5, 0.5, 0.0], [0.25, 0.0, 0.1])
    score = measure.summary()[100]
    assert (score.ad, score.ic) == (75, pytest.approx(100 / 3))
    assert score.ad_ci95 is not None
    assert score.ad_ci95 == (50, 100), "two images have a drop; a few of 2,000 draws have none"
    assert measure.undefined["ad"] == 1


def test_where_all_have_no_confidence_ad_is_undefined_and_ic_is_not() -> None:
    measure = scored([0.0, 0.0], [0.0, 0.5])
    score = measure.summary()[100]
    assert (score.ad, score.ad_ci95, score.ic) == (None, None, 50)
    assert measure.undefined["ad"] == 2


def test_an_image_counts_where_one_of_its_classes_has_confidence() -> None:
    measure = Gathered([50])
    measure.add(torch.tensor([0.5, 0.0, 0.8]), torch.tensor([[0.0, 0.0, 0.8]]), [0, 0, 1])
    score = measure.summary()[50]
    assert (measure.count, measure.undefined["ad"], score.ad) == (2, 1, 50), "of 100% and 0%"


@given(SCORES)
@settings(deadline=None)
def test_percentages_and_intervals_are_in_range(scores: np.ndarray) -> None:
    measure = Gathered([100, 50])
    measure.add(torch.from_numpy(scores[0]), torch.from_numpy(scores[1:]))
    for score in measure.summary().values():
        assert (score.ad is None) == (score.ad_ci95 is None) == (scores[0] == 0).all()
        for value, ends in [(score.ad, score.ad_ci95), (score.ic, score.ic_ci95)]:
            if value is not None and ends is not None:
                assert 0 <= ends[0] <= ends[1] <= 100 + 1e-9
                assert 0 <= value <= 100


@given(SCORES, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=30)
def test_neither_the_order_nor_the_batches_matter(scores: np.ndarray, random: object) -> None:
    order = list(range(scores.shape[1]))
    random.shuffle(order)  # type: ignore[attr-defined]
    whole, parts = Gathered([100, 50]), Gathered([100, 50])
    whole.add(torch.from_numpy(scores[0]), torch.from_numpy(scores[1:]))
    for i in order:
        one = torch.from_numpy(scores[:, i : i + 1])
        parts.add(one[0], one[1:])
    assert parts.count == whole.count
    for nu, score in whole.summary().items():
        assert parts.summary()[nu].ad == (score.ad and pytest.approx(score.ad))
        assert parts.summary()[nu].ic == pytest.approx(score.ic)


@given(SCORES, st.sampled_from([0.5, 0.25]))
@settings(deadline=None)
def test_only_the_ratio_of_the_scores_matters(scores: np.ndarray, factor: float) -> None:
    full, masked = torch.from_numpy(scores[0]), torch.from_numpy(scores[1:])
    both = drop(full, masked), drop(full * factor, masked * factor)
    assert torch.allclose(*both, equal_nan=True)
    assert torch.equal(increase(full, masked), increase(full * factor, masked * factor))


def test_agrees_with_torchcam() -> None:
    torchcam = pytest.importorskip("torchcam.metrics")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 5)).eval()
    with torch.no_grad():
        model[1].weight *= 4  # so that masking moves the scores both ways
    maps = torch.rand(16, 12, 12)
    images = torch.randn(16, 3, 12, 12)

    class GivenMaps:
        """Stands where torchcam expects an extractor: the maps are known already."""

        def __init__(self) -> None:
            self.model = model

        def _hooks_off(self) -> AbstractContextManager[None]:
            return nullcontext()

        def disable_hooks(self) -> None:  # and so in torchcam 0.4
            pass

        enable_hooks = disable_hooks

        def __call__(self, *_args: object) -> list[torch.Tensor]:
            return [maps]

        def fuse_cams(self, cams: list[torch.Tensor]) -> torch.Tensor:
            return cams[0]

    theirs = torchcam.ClassificationMetric(GivenMaps(), lambda logits: torch.softmax(logits, -1))
    theirs.update(images)
    with torch.no_grad():
        full, label = torch.softmax(model(images), -1).max(-1)
        masked = torch.softmax(model(images * maps[:, None]), -1)
    ours = Gathered([100])
    ours.add(full, masked.gather(1, label[:, None]).T)
    score, expected = ours.summary()[100], theirs.summary()
    assert score.ad == pytest.approx(expected["avg_drop"] * 100, rel=1e-5)
    assert score.ic == pytest.approx(expected["conf_increase"] * 100, rel=1e-5)
    assert 0 < score.ic < 100


def test_interval_of_equal_terms_is_that_term() -> None:
    low, high = percentiles(bootstrap(np.full((2, 50), 7.0), seed=0, resamples=100).T)
    assert low == pytest.approx([7, 7])
    assert high == pytest.approx([7, 7])


def test_interval_agrees_with_the_normal_approximation_and_with_its_seed() -> None:
    terms = np.random.default_rng(1).normal(50, 10, size=(1, 400))
    (low,), (high,) = percentiles(bootstrap(terms, seed=3).T)
    half = 1.96 * terms.std() / np.sqrt(400)
    assert low == pytest.approx(terms.mean() - half, abs=0.15)
    assert high == pytest.approx(terms.mean() + half, abs=0.15)
    assert percentiles(bootstrap(terms, seed=3).T)[0] == low
    assert percentiles(bootstrap(terms, seed=4).T)[0] != low


def test_drawing_in_parts_gives_all_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    terms = np.random.default_rng(1).random((1, 100))
    at_once = bootstrap(terms, seed=0, resamples=500)
    monkeypatch.setattr("lcam_cli.measures.bootstrap._DRAWS_AT_ONCE", 700)
    assert bootstrap(terms, seed=0, resamples=500) == pytest.approx(at_once)


def test_scores_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(LcamError, match="not a finite number"):
        scored([0.5, float("nan")], [0.1, 0.1])


def test_nothing_scored_is_told() -> None:
    with pytest.raises(LcamError, match="no image"):
        Gathered([100]).summary()


def test_a_row_for_each_nu_is_wanted() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2\)"):
        Gathered([100]).add(torch.ones(2), torch.ones(1, 1, 2))


def test_the_rows_of_an_image_are_one_term() -> None:
    full = torch.tensor([0.5, 0.5, 0.5, 0.5])
    masked = torch.tensor([[0.5, 0.25, 0.0, 0.75]])  # drops 0, 50, 100, 0; one rise
    rows, together = Gathered([50]), Gathered([50])
    rows.add(full, masked)
    together.add(full[:3], masked[:, :3], [7, 7, 9])
    together.add(full[3:], masked[:, 3:], [9])  # an image's rows may lie in two batches
    assert (rows.count, together.count) == (4, 2)
    score = together.summary()[50]
    assert (score.ad, score.ic) == (37.5, 25)
    assert score.ad_ci95 == (25, 50), "two images are drawn: 25 and 50"
    assert rows.summary()[50].ad == 37.5
