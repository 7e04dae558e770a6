"""ROAD: by hand, against grad-cam with the same noise, and the same whatever is beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lcam_cli.engine.engine import Engine
from lcam_cli.measures import imputation
from lcam_cli.measures.measure import MapScores
from lcam_cli.measures.picture_scores import PictureScores
from lcam_cli.measures.registry import find_measure
from lcam_cli.measures.road import Road, RoadSteps
from lcam_cli.measures.sweep import Candidate, sweep
from lcam_cli.measures.task import Task
from lcam_cli.measures.view import BatchView, MapView
from lcam_cli.methods.cam import Cam
from lcam_cli.methods.noise import RandomMap
from tests.measures.imputed import imputed
from tests.tiny import SMALL, tiny_backbone, write_pictures

SIDE = SMALL.image_size
PIXELS = SIDE * SIDE
COUNTS = {20: 205, 40: 410, 60: 614, 80: 819}  # of 1,024 pixels


def engine() -> Engine:
    return Engine(tiny_backbone(), device="cpu", precision="fp32")


def view(running: Engine, x: Tensor, V: Tensor) -> MapView:
    forward = running.forward(x)
    classes = forward.predicted
    batch = BatchView(running, forward, "pixel")
    return MapView(batch, V, classes, forward.confidence(classes))


def pictures(count: int) -> Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))


def maps(count: int) -> Tensor:
    """Maps without two equal pixels."""
    draw = torch.Generator().manual_seed(6)
    ranks = [torch.randperm(PIXELS, generator=draw) for _ in range(count)]
    return (torch.stack(ranks) / PIXELS).view(count, SIDE, SIDE)


@dataclass
class Step:
    x: Tensor
    removed: Tensor
    shown: Tensor

    @property
    def noise(self) -> Tensor:
        """What was added to the imputed images, in units of σ."""
        return (self.shown - imputation.impute(self.x, self.removed)) / 0.01


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Callable[[MapView], tuple[Tensor, list[Step]]]:
    """Score ROAD's steps and give what was shown in each."""
    impute = imputation.impute

    def run(seen: MapView) -> tuple[Tensor, list[Step]]:
        found: list[Step] = []
        logits = seen.batch.engine.logits

        def recorded(x: Tensor, removed: Tensor) -> Tensor:
            found.append(Step(x, removed, x))
            return impute(x, removed)

        def shown(x: Tensor) -> Tensor:
            found[-1].shown = x.clone()
            return logits(x)

        with monkeypatch.context() as patch:
            patch.setattr(imputation, "impute", recorded)
            patch.setattr(seen.batch.engine, "logits", shown)
            return RoadSteps().scores(seen), found

    return run


Steps = Callable[[MapView], tuple[Tensor, list[Step]]]


def road(seen: MapView, steps: RoadSteps | None = None) -> Tensor:
    measure = Road()
    measured = {measure.steps: (steps or measure.steps).scores(seen)}
    return measure.numbers(MapScores(seen.V, seen.full, measured), 100)


# --- What is removed, and what it becomes ---


def test_the_highest_are_removed_first_then_the_lowest(steps: Steps) -> None:
    V = maps(2)
    scores, found = steps(view(engine(), pictures(2), V))
    assert scores.shape == (8, 2)
    for step, count in zip(found[:4], COUNTS.values(), strict=True):
        assert torch.equal(step.removed, 1 - count / PIXELS <= V)
    for step, count in zip(found[4:], COUNTS.values(), strict=True):
        assert torch.equal(step.removed, count / PIXELS > V)


def test_of_equal_pixels_the_first_in_reading_order_are_the_highest(steps: Steps) -> None:
    _, found = steps(view(engine(), pictures(1), torch.full((1, SIDE, SIDE), 0.5)))
    first, last = found[0].removed.flatten(), found[4].removed.flatten()
    assert first[:205].all()
    assert last[-205:].all()
    assert first.sum() == last.sum() == 205


def test_noise_is_on_removed_pixels_alone_and_of_the_right_size(steps: Steps) -> None:
    seen = view(engine(), pictures(2), maps(2))
    _, found = steps(seen)
    for step in found:
        kept = ~step.removed.unsqueeze(1).expand_as(step.x)
        assert torch.equal(step.shown[kept], step.x[kept])
        noise = step.noise[~kept]
        assert abs(noise.mean()) < 5 / len(noise) ** 0.5
        assert noise.std() == pytest.approx(1, abs=0.1)
    # What two steps remove alike has other noise in each, in every channel.
    both = found[1].removed & found[2].removed
    one, other = (step.noise.permute(0, 2, 3, 1)[both] for step in found[1:3])
    assert np.corrcoef(one.flatten(), other.flatten())[0, 1] == pytest.approx(0, abs=0.1)
    assert np.corrcoef(one[:, 0], one[:, 1])[0, 1] == pytest.approx(0, abs=0.15)


def test_noise_goes_with_the_picture_and_not_with_the_map_or_the_batch(steps: Steps) -> None:
    x, V = pictures(3), maps(3)
    running = engine()
    _, together = steps(view(running, x, V))
    _, alone = steps(view(running, x[1:2], V[1:2]))
    _, other = steps(view(running, x[1:2], V[2:3]))
    for batch, single, another in zip(together, alone, other, strict=True):
        torch.testing.assert_close(batch.shown[1:2], single.shown, atol=1e-6, rtol=0)
        both = (single.removed & another.removed).unsqueeze(1).expand(1, 3, -1, -1)
        torch.testing.assert_close(single.noise[both], another.noise[both], atol=0.05, rtol=0)


# --- Whole values ---


def test_a_value_by_hand_without_noise() -> None:
    """Each step by a sparse solver and the network itself, in numpy and plain torch."""
    running, x, V = engine(), pictures(2), maps(2)
    seen = view(running, x, V)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (SMALL.mean, SMALL.std))
    network = running.backbone.network
    expected = []
    for picture, V_one, y in zip(x, V, seen.classes, strict=True):
        order = V_one.flatten().argsort(descending=True)

        def score(gone: Tensor, picture: Tensor = picture, y: Tensor = y) -> float:
            removed = torch.zeros(PIXELS, dtype=torch.bool)
            removed[gone] = True
            whole = imputed(picture.numpy(), removed.view(SIDE, SIDE).numpy())
            given = (torch.from_numpy(whole).float() - mean) / std
            with torch.no_grad():
                return float(network(given.unsqueeze(0)).softmax(1)[0, y])

        differences = [score(order[-n:]) - score(order[:n]) for n in COUNTS.values()]
        expected.append(sum(differences) / 4 / 2)
    got = road(seen, RoadSteps(sigma=0))
    torch.testing.assert_close(got, torch.tensor(expected), atol=1e-5, rtol=0)
    assert got.abs().min() > 1e-4  # or the comparison says nothing


def test_against_grad_cam_with_the_same_noise(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = pytest.importorskip("pytorch_grad_cam.metrics.road")
    running, x, V = engine(), pictures(2), maps(2)
    seen = view(running, x, V)
    scores, found = steps(seen)

    # There the lowest are removed first, and a percentile is what is kept: 20 removes 80 %.
    order = iter([found[i] for i in (7, 6, 5, 4, 3, 2, 1, 0)])
    waiting: list[Tensor] = []

    def noise(like: Tensor) -> Tensor:
        if not waiting:
            step = next(order)
            pairs = zip(step.noise, step.removed, strict=True)
            waiting.extend(field[:, removed] for field, removed in pairs)
        given = waiting.pop(0)
        assert given.shape == like.shape
        return given

    class Classifier(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return running.logits(x).softmax(1)

    targets = [lambda scores, y=y: scores[y] for y in seen.classes.tolist()]
    monkeypatch.setattr(torch, "randn_like", noise)
    combined = reference.ROADCombined([20, 40, 60, 80])
    expected = combined(x, V.numpy(), targets, Classifier())
    got = Road().numbers(MapScores(V, seen.full, {RoadSteps(): scores}), 100)
    np.testing.assert_allclose(got, expected, atol=1e-5, rtol=0)
    assert next(order, None) is None


def test_a_map_of_what_counts_beats_its_opposite(steps: Steps) -> None:
    """The score is that of the upper half: without it first, little is left."""
    running, x = engine(), pictures(1)
    V = torch.linspace(1, 0, PIXELS).view(1, SIDE, SIDE)
    up, down = (float(road(view(running, x, map_))) for map_ in (V, V.flip(1, 2)))
    assert up == pytest.approx(-down, abs=2e-3)  # the opposite order, and noise
    assert -0.5 <= up <= 0.5


def test_a_score_that_is_no_number_leaves_the_map_out() -> None:
    scores = torch.full((8, 2), 0.5)
    scores[3, 1] = torch.nan
    steps = RoadSteps()
    numbers = Road().numbers(MapScores(torch.zeros(2, 4, 4), torch.ones(2), {steps: scores}), 100)
    assert numbers[0] == 0
    assert numbers[1].isnan()


# --- In a run ---


def test_eight_passes_a_map_and_one_draw_of_noise_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, sizes, drawn = write_pictures(tmp_path, 8), Counter[int](), Counter[int]()
    running = Engine(tiny_backbone(), device="cpu", precision="fp32", batch_size=4)
    run, default_rng = running.run, np.random.default_rng

    def counted(function: Callable[..., object], *tensors: Tensor) -> object:
        sizes[len(tensors[0])] += 1
        return run(function, *tensors)

    def counted_draw(seed: Any = None) -> np.random.Generator:
        if isinstance(seed, list) and len(seed) == 2:
            drawn[seed[1]] += 1
        return default_rng(seed)

    monkeypatch.setattr(running, "run", counted)
    monkeypatch.setattr(np.random, "default_rng", counted_draw)
    task = Task(paths, nus=(50.0,), measures=[Road()])
    methods = (Cam(running.backbone), RandomMap(seed=0))
    candidates = [Candidate(m.name, m, PictureScores.empty(task, (SIDE, SIDE))) for m in methods]
    sweep(running, candidates, task, workers=1)
    assert sizes == {4: 2 * (1 + 2 * (1 + 8))}  # the images; each map at its ν, and ROAD's eight
    assert set(drawn.values()) == {1}
    assert len(drawn) == 8


@pytest.mark.parametrize("batch", [1, 3])
def test_a_run_gives_the_same_at_every_batch_size(tmp_path: Path, batch: int) -> None:
    paths = write_pictures(tmp_path, 5)

    def measured(size: int) -> np.ndarray:
        running = Engine(tiny_backbone(), device="cpu", precision="fp32", batch_size=size)
        task = Task(paths, nus=(50.0,), measures=[Road()])
        candidate = Candidate("cam", Cam(running.backbone), PictureScores.empty(task, (SIDE, SIDE)))
        sweep(running, [candidate], task, workers=1)
        return np.asarray(candidate.scores.numbers)

    assert np.isfinite(measured(batch)).all()
    np.testing.assert_allclose(measured(batch), measured(5), atol=1e-6, rtol=0)


def test_what_it_says_of_itself() -> None:
    measure = find_measure("road")
    assert measure.settings == {"shares": [20, 40, 60, 80], "sigma": 0.01, "seed": 0}
    assert (measure.cost, measure.source) == (
        "8 passes and 8 imputations",
        "Rong et al., ICML 2022",
    )
    assert not measure.lower_is_better
