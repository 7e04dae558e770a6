"""Scores of rows from the scores of images, and what a sweep leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.errors import LcamError
from lcam_cli.images.stream import stream_batches
from lcam_cli.measures.average_drop import AverageDrop
from lcam_cli.measures.compare_state import CompareState, shown_pictures
from lcam_cli.measures.increase_in_confidence import IncreaseInConfidence
from lcam_cli.measures.picture_scores import PictureScores
from lcam_cli.measures.registry import make_measures
from lcam_cli.measures.rows import score_rows
from lcam_cli.measures.sweep import Candidate, sweep
from lcam_cli.measures.task import Task
from lcam_cli.methods.base import Maps
from lcam_cli.methods.explain import ClassChoice
from lcam_cli.methods.gradient import GradCam
from lcam_cli.methods.noise import RandomMap
from tests.tiny import tiny_backbone, write_pictures


def terms(full: list[list[float]], masked: list[list[float]]) -> PictureScores:
    task = Task(["a"] * len(full), ClassChoice(tuple(range(len(full[0])))), [50.0])
    made = PictureScores.empty(task, (4, 4))
    made.full[:] = full
    made.masked[0] = masked
    both = torch.tensor(full), torch.tensor(masked)
    made.numbers[0] = AverageDrop().compare(*both)
    made.numbers[1] = IncreaseInConfidence().compare(*both)
    made.mean_saliency[:] = 0.5
    made.seconds = 2.0
    return made


def test_a_pictures_term_is_the_mean_over_its_classes() -> None:
    # Drops: image 1: 50% and 0 (it rose); image 2: 0 (unchanged) and 100%.
    row = terms([[0.8, 0.2], [0.5, 0.5]], [[0.4, 0.3], [0.5, 0.0]])
    task = Task(["a", "b"], ClassChoice((0, 1)), [50.0])
    (score,) = score_rows({"one": row}, task)
    assert score.scores.nu[50.0]["ad"].mean == pytest.approx((25 + 50) / 2)
    assert score.scores.nu[50.0]["ic"].mean == pytest.approx((50 + 0) / 2)
    low, high = score.scores.nu[50.0]["ad"].ci95
    assert (low, high) == pytest.approx((25, 50)), "two images are drawn, not four terms"
    assert score.images_per_second == 1.0
    assert score.scores.nu[50.0]["ad"].to_best is None


def test_rows_are_scored_on_the_pictures_they_share() -> None:
    nan = float("nan")
    task = Task(["a", "b", "c"], ClassChoice(), [50.0])
    rows = {
        "first": terms([[0.5], [0.5], [nan]], [[0.5], [0.25], [nan]]),
        "second": terms([[nan], [0.5], [0.5]], [[nan], [0.0], [0.5]]),
    }
    first, second = score_rows(rows, task)
    ads = [row.scores.nu[50.0]["ad"].mean for row in (first, second)]
    assert ads == [50, 100], "the second image alone"
    rows["third"] = terms([[0.5], [nan], [0.5]], [[0.5], [nan], [0.5]])
    with pytest.raises(LcamError, match="no image was scored by all"):
        score_rows(rows, task)


def test_batches_do_not_matter_and_terms_survive_the_disk(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "pictures", 7)
    task = Task(
        paths, ClassChoice((0, 3)), [100.0, 40.0], make_measures(["deletion"]), shown=[0, 6]
    )
    made = []
    for batch_size in (7, 3):
        backbone = tiny_backbone()
        engine = Engine(backbone, device="cpu", precision="fp32", batch_size=batch_size)
        candidates = [
            Candidate(m.name, m, PictureScores.empty(task, (32, 32)))
            for m in (GradCam(), RandomMap(seed=1))
        ]
        sweep(engine, candidates, task)
        made.append(candidates)
        state = CompareState(tmp_path / "state", engine, task)
        for candidate in candidates:
            everything = range(len(paths))
            state.save(candidate, everything, candidate.scores, "why")
            assert state.parts(candidate) == [everything]
            assert state.load(candidate, range(3)) is None
            kept = state.load(candidate, everything)
            assert kept is not None
            again, failed = kept
            assert failed == "why"
            np.testing.assert_array_equal(again.masked, candidate.scores.masked)
            np.testing.assert_array_equal(again.shown, candidate.scores.shown)
            assert again.seconds == candidate.scores.seconds
    assert len(list((tmp_path / "state").iterdir())) == 1, "batches are no part of its name"
    for one, other in zip(*made, strict=True):
        assert one.scores.scored.all()
        for name in ("classes", "full", "masked", "numbers", "mean_saliency", "shown"):
            a, b = getattr(one.scores, name), getattr(other.scores, name)
            np.testing.assert_allclose(a.astype(float), b.astype(float), atol=1e-3, err_msg=name)


@pytest.mark.parametrize("parts", [[range(4), range(4, 7)], [range(2, 6), range(2), range(6, 7)]])
def test_parts_of_the_pictures_make_the_whole(tmp_path: Path, parts: list[range]) -> None:
    paths = write_pictures(tmp_path / "pictures", 7)
    task = Task(
        paths, ClassChoice((0, 3)), [100.0, 40.0], make_measures(["deletion"]), shown=[0, 5, 6]
    )
    engine = Engine(tiny_backbone(), device="cpu", precision="fp32", batch_size=2)

    def swept(pictures: range | None) -> PictureScores:
        candidate = Candidate("random", RandomMap(seed=1), PictureScores.empty(task, (32, 32)))
        sweep(engine, [candidate], task, pictures=pictures)
        return candidate.scores

    whole, joined, seconds = swept(None), PictureScores.empty(task, (32, 32)), 0.0
    for part in parts:
        one = swept(part)
        assert one.scored.nonzero()[0].tolist() == list(part)
        joined.enter(part, one, task)
        seconds += one.seconds
    for name in ("classes", "full", "masked", "numbers", "mean_saliency", "shown"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name), err_msg=name)
    assert joined.seconds == seconds


class FailsOnOne(GradCam):
    """Fails on a batch with the second image."""

    def __call__(self, engine: Engine, seen: Forward, classes: torch.Tensor) -> Maps:
        if seen.x[:, 0, 0, 0].isclose(self.corner).any():
            raise LcamError("it fails")
        return super().__call__(engine, seen, classes)


def test_a_picture_that_a_method_fails_on_does_not_change_the_others(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "pictures", 4)
    task = Task(paths, nus=[50.0], measures=make_measures(["insertion", "deletion"]))
    engine = Engine(tiny_backbone(), device="cpu", precision="fp32", batch_size=4)
    read = next(stream_batches(paths, engine.backbone.preprocess, 4, workers=1))
    fails = FailsOnOne()
    fails.corner = engine.pixels(read.images)[1, 0, 0, 0]
    whole, parts = (
        Candidate(m.name, m, PictureScores.empty(task, (32, 32))) for m in (GradCam(), fails)
    )
    sweep(engine, [whole, parts], task, workers=1)
    assert whole.scores.scored.all()
    assert parts.scores.scored.tolist() == [True, False, True, True]
    there = parts.scores.scored
    np.testing.assert_allclose(
        parts.scores.numbers[:, there], whole.scores.numbers[:, there], atol=1e-3
    )
    assert np.isfinite(parts.scores.numbers[:, there]).all()


@given(st.integers(1, 500), st.integers(1, 12))
def test_shown_pictures_are_evenly_chosen(count: int, wanted: int) -> None:
    chosen = list(shown_pictures(count, wanted))
    assert len(chosen) == min(count, wanted)
    assert chosen == sorted(set(chosen))
    assert chosen[0] >= 0
    assert chosen[-1] < count
    gaps = np.diff(chosen)
    assert gaps.size == 0 or gaps.max() - gaps.min() <= 1
    assert abs(chosen[0] - (count - 1 - chosen[-1])) <= 1, "as far from either end"
