"""Diagnosing images on the tiny network, against a second, plain way to do the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.errors import LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.measures.diagnose import ExplainedMistake, diagnose, gather_evidence, region
from lcam_cli.measures.error_groups import Rules, group_of
from lcam_cli.methods.base import Maps
from lcam_cli.methods.gradient import GradCam
from tests.tiny import tiny_backbone, write_pictures


class Counted(GradCam):
    """Notes how many images it is asked to explain."""

    def __init__(self) -> None:
        super().__init__()
        self.explained: list[int] = []

    def __call__(self, engine: Engine, seen: Forward, classes: Tensor) -> Maps:
        self.explained.append(len(classes))
        return super().__call__(engine, seen, classes)


@pytest.fixture
def engine() -> Engine:
    return Engine(tiny_backbone(), device="cpu", batch_size=4)


def predictions(engine: Engine, paths: list[str]) -> list[int]:
    """What the network takes each image for: asked with labels that cannot all be right."""
    found: dict[str, int] = {}
    for label in (0, 1):
        outcome = diagnose(engine, GradCam(), paths, [label] * len(paths))
        wrong = {m.path: m.predicted for m in outcome.mistakes}
        found |= {path: wrong.get(path, label) for path in paths}
    return [found[path] for path in paths]


def test_only_the_misclassified_are_explained_and_each_is_in_one_group(
    engine: Engine, tmp_path: Path
) -> None:
    paths = write_pictures(tmp_path, 10)
    predicted = predictions(engine, paths)
    labels = [(p + (i % 3 > 0)) % 4 for i, p in enumerate(predicted)]
    wrong = [path for path, p, t in zip(paths, predicted, labels, strict=True) if p != t]
    method, shown = Counted(), list[ExplainedMistake]()
    outcome = diagnose(engine, method, paths, labels, show=shown.append)
    assert [m.path for m in outcome.mistakes] == wrong
    assert outcome.pictures == [labels.count(c) for c in range(4)]
    assert outcome.images == 10
    assert sum(method.explained) == 2 * len(wrong), "a map of each class, and none of the rest"
    assert [s.mistake for s in shown] == outcome.mistakes
    for one in shown:
        i = paths.index(one.mistake.path)
        assert (one.mistake.true, one.mistake.predicted) == (labels[i], predicted[i])
        assert one.view.shape == (32, 32, 3)
        assert one.true_map.shape == one.predicted_map.shape == (32, 32)
        assert group_of(one.mistake.evidence, Rules()) is one.mistake.group


def test_evidence_is_that_of_a_plain_computation(engine: Engine) -> None:
    """Picture by image in NumPy, the rest of the image painted over with the mean colour."""
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(6, 3, 32, 32, generator=generator)
    V, W = torch.rand(2, 6, 32, 32, generator=generator)
    true = torch.tensor([0, 1, 2, 3, 0, 1])
    seen = engine.forward(x)
    found = gather_evidence(engine, seen, true, V, W, 25.0)
    mean = torch.tensor(engine.backbone.preprocess.mean).view(3, 1, 1)
    for i, one in enumerate(found):
        own, other = ((m[i] >= np.sort(m[i].numpy().ravel())[-256]).numpy() for m in (V, W))
        assert own.sum() == other.sum() == 256, "a quarter of 32×32"
        assert one.overlap == pytest.approx((own & other).sum() / (own | other).sum())
        painted = torch.where(torch.from_numpy(own), x[i], mean)
        scores = engine.logits(painted[None]).softmax(1)[0]
        whole = engine.logits(x[i : i + 1]).softmax(1)[0]
        predicted = int(whole.argmax())
        assert one.true_score == pytest.approx(float(whole[true[i]]), abs=1e-5)
        assert one.predicted_score == pytest.approx(float(whole[predicted]), abs=1e-5)
        assert one.true_kept == pytest.approx(float(scores[true[i]]), abs=1e-5)
        assert one.predicted_kept == pytest.approx(float(scores[predicted]), abs=1e-5)


def test_a_map_of_zeros_names_no_region_and_recovers_nothing(engine: Engine) -> None:
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    nothing = torch.zeros(2, 32, 32)
    assert not region(nothing, 25).any()
    for one in gather_evidence(
        engine, engine.forward(x), torch.tensor([0, 1]), nothing, nothing, 25
    ):
        assert (one.overlap, one.true_kept, one.predicted_kept) == (0, 0, 0)
        assert not one.recovered


def test_the_region_is_the_share_asked_for() -> None:
    V = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(0))
    assert region(V, 15).sum((1, 2)).tolist() == [60, 60, 60]
    assert region(V, 100).all()


def test_results_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, 7)
    outcomes = [
        diagnose(Engine(tiny_backbone(), device="cpu", batch_size=size), GradCam(), paths, [3] * 7)
        for size in (1, 3, 7)
    ]
    for other in outcomes[1:]:
        assert [m.group for m in other.mistakes] == [m.group for m in outcomes[0].mistakes]
        for ours, theirs in zip(other.mistakes, outcomes[0].mistakes, strict=True):
            assert ours.evidence.true_kept == pytest.approx(theirs.evidence.true_kept, abs=1e-5)


def test_bad_pictures_are_told_and_not_counted(engine: Engine, tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, 5)
    Path(paths[2]).write_text("no picture")
    told: list[Skipped] = []
    done: list[int] = []
    outcome = diagnose(
        engine, GradCam(), paths, [0, 1, 2, 3, 0], skip=told.append, advance=done.append
    )
    assert [s.path for s in told] == [paths[2]]
    assert outcome.pictures == [2, 1, 0, 1]
    assert sum(done) == 5
    with pytest.raises(LcamError, match="none of the 1 images"):
        diagnose(engine, GradCam(), paths[2:3], [0])


def test_it_stops_when_asked(engine: Engine, tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, 12)
    outcome = diagnose(engine, GradCam(), paths, [0] * 12, stop=lambda: True)
    assert outcome.images == 4, "the first batch"


def test_scores_that_are_no_numbers_are_told(engine: Engine, tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, 1)
    with torch.no_grad():
        next(engine.backbone.network.parameters()).fill_(torch.nan)
    with pytest.raises(LcamError, match="not finite on the only image"):
        diagnose(engine, GradCam(), paths, [0])


def test_a_part_of_a_forward_pass_keeps_what_other_layers_gave(engine: Engine) -> None:
    """Methods of several layers, too, explain some images of a batch alone."""
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    seen = engine.forward(x)
    (whole,) = engine.outputs_of(seen, ["1"])
    part = seen.only(torch.tensor([1, 3]))
    torch.testing.assert_close(part.A, seen.A[[1, 3]])
    torch.testing.assert_close(engine.outputs_of(part, ["1"])[0], whole[[1, 3]])
    assert part.predicted.tolist() == seen.predicted[[1, 3]].tolist()


def test_a_map_that_is_no_number_puts_a_picture_in_no_group(engine: Engine, tmp_path: Path) -> None:
    class Broken(GradCam):
        def __call__(self, engine: Engine, seen: Forward, classes: Tensor) -> Maps:
            maps = super().__call__(engine, seen, classes)
            maps.saliency[0] = float("nan")
            return maps

    paths = write_pictures(tmp_path, 4)
    labels = [(p + 1) % 4 for p in predictions(engine, paths)]
    told: list[Skipped] = []
    outcome = diagnose(engine, Broken(), paths, labels, skip=told.append)
    assert [m.path for m in outcome.mistakes] == paths[1:]
    assert told == [Skipped(paths[0], "gradcam: its map is not finite")]
    assert outcome.images == 3


class Turned(GradCam):
    """The maps of another method."""

    name = "turned"

    def __call__(self, engine: Engine, seen: Forward, classes: Tensor) -> Maps:
        maps = super().__call__(engine, seen, classes)
        return replace(maps, saliency=maps.saliency.flip(2))


def test_a_second_method_groups_the_same_errors_and_changes_nothing_else(
    engine: Engine, tmp_path: Path
) -> None:
    paths = write_pictures(tmp_path, 10)
    labels = [(p + 1) % 4 for p in predictions(engine, paths)]
    rules = Rules(same_region=0.9, evidence=0.6)
    alone = diagnose(engine, GradCam(), paths, labels, rules=rules)
    other = diagnose(engine, Turned(), paths, labels, rules=rules)
    both = diagnose(engine, GradCam(), paths, labels, second=Turned(), rules=rules)
    assert [m.second_group for m in both.mistakes] == [m.group for m in other.mistakes]
    assert [replace(m, second_group=None) for m in both.mistakes] == alone.mistakes
    assert both.flat_maps == alone.flat_maps
    assert [m.moves for m in both.mistakes] == [
        ours.group is not theirs.group
        for ours, theirs in zip(alone.mistakes, other.mistakes, strict=True)
    ]
    assert not any(m.moves for m in alone.mistakes)


def test_a_second_map_that_is_no_number_is_no_group(engine: Engine, tmp_path: Path) -> None:
    class Broken(GradCam):
        def __call__(self, engine: Engine, seen: Forward, classes: Tensor) -> Maps:
            maps = super().__call__(engine, seen, classes)
            maps.saliency[0] = float("nan")
            return maps

    paths = write_pictures(tmp_path, 4)
    labels = [(p + 1) % 4 for p in predictions(engine, paths)]
    outcome = diagnose(engine, GradCam(), paths, labels, second=Broken())
    assert [m.second_group is None for m in outcome.mistakes] == [True, False, False, False]
    assert not outcome.mistakes[0].moves
