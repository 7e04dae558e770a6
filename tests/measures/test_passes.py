"""Each perturbed image is scored once, in full batches, whatever the number of measures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from torch import Tensor

from lcam_cli.engine.engine import Engine
from lcam_cli.measures.adcc import Adcc
from lcam_cli.measures.average_drop import AverageDrop
from lcam_cli.measures.average_gain import AverageGain
from lcam_cli.measures.coherency import Coherency
from lcam_cli.measures.curves import STEPS
from lcam_cli.measures.deletion import Deletion
from lcam_cli.measures.increase_in_confidence import IncreaseInConfidence
from lcam_cli.measures.insertion import Insertion
from lcam_cli.measures.measure import Measure, NuMeasure
from lcam_cli.measures.picture_scores import PictureScores
from lcam_cli.measures.sensitivity import Sensitivity
from lcam_cli.measures.sweep import Candidate, sweep
from lcam_cli.measures.task import Task
from lcam_cli.methods.cam import Cam
from lcam_cli.methods.explain import ClassChoice
from lcam_cli.methods.noise import RandomMap
from tests.tiny import tiny_backbone, write_pictures

PICTURES, BATCH, CLASSES = 8, 4, 2
NUS = (100.0, 50.0, 15.0)


class Loss(NuMeasure):
    """A third measure of the same scores."""

    name = title = "loss"
    lower_is_better = True

    def compare(self, full: Tensor, kept: Tensor) -> Tensor:
        return full - kept


class MoreOfDeletion(Deletion):
    """A second measure of the same steps."""

    name = title = "more"


@pytest.fixture
def passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Counter[int]]:
    """Count the forward passes of a sweep of two methods, by the number of images in each."""
    paths = write_pictures(tmp_path, PICTURES)

    def count(
        measures: Sequence[Measure], nus: Sequence[float] = NUS, keep: str = "values"
    ) -> Counter[int]:
        engine = Engine(tiny_backbone(), device="cpu", precision="fp32", batch_size=BATCH)
        sizes: Counter[int] = Counter()
        run = engine.run

        def counted(function: Callable[..., object], *tensors: Tensor) -> object:
            sizes[len(tensors[0])] += 1
            return run(function, *tensors)

        monkeypatch.setattr(engine, "run", counted)
        task = Task(paths, ClassChoice((0, 1)), nus, measures, keep=keep)
        methods = (Cam(engine.backbone), RandomMap(seed=0))  # neither needs a pass of its own
        candidates = [Candidate(m.name, m, PictureScores.empty(task, (32, 32))) for m in methods]
        sweep(engine, candidates, task, workers=1)
        assert all(candidate.scores.scored.all() for candidate in candidates)
        return sizes

    return count


def test_measures_of_the_same_scores_share_their_passes(
    passes: Callable[..., Counter[int]],
) -> None:
    batches, maps = PICTURES // BATCH, 2 * CLASSES
    expected = batches * (1 + maps * len(NUS))  # the images, then each map at each ν
    one = passes([AverageDrop()])
    assert one == {BATCH: expected}
    assert passes([AverageDrop(), IncreaseInConfidence(), Loss()]) == one


def test_what_does_not_depend_on_the_map_is_scored_once_a_batch(
    passes: Callable[..., Counter[int]],
) -> None:
    batches, maps = PICTURES // BATCH, 2 * CLASSES
    of_maps = maps * (len(NUS) + 2 * (STEPS - 1))
    measures = [AverageDrop(), IncreaseInConfidence(), Insertion(), Deletion()]
    both = passes(measures)
    # Besides: the images, the blurred ones, and one where all is hidden.
    assert both == {BATCH: batches * (2 + of_maps), 1: batches}
    assert passes([*measures, MoreOfDeletion()]) == both


def test_the_picture_seen_through_its_map_is_scored_and_explained_in_one_pass(
    passes: Callable[..., Counter[int]],
) -> None:
    batches, maps = PICTURES // BATCH, 2 * CLASSES
    without = passes([AverageDrop(), AverageGain()])
    again = [AverageDrop(), AverageGain(), Coherency(), Adcc()]
    assert passes(again) == without, "AD(100) has that pass already"
    lower = (50.0, 15.0)
    assert passes(again, lower)[BATCH] == passes([AverageDrop()], lower)[BATCH] + batches * maps
    # Whole at ν = 100 is the very image: X ⊙ V takes that pass's place.
    assert passes(again, keep="whole") == without
    drawn = Sensitivity.neighbours.draws
    assert passes([*again, Sensitivity()])[BATCH] == without[BATCH] + batches * maps * drawn
