"""Coherency, ADCC and sensitivity against other implementations, and where they are undefined."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.errors import LcamError
from lcam_cli.images.stream import stream_batches
from lcam_cli.measures.adcc import Adcc
from lcam_cli.measures.coherency import Coherency
from lcam_cli.measures.measure import Kept, MapScores
from lcam_cli.measures.picture_scores import PictureScores
from lcam_cli.measures.registry import make_measures
from lcam_cli.measures.sensitivity import Neighbours, Sensitivity
from lcam_cli.measures.sweep import Candidate, sweep
from lcam_cli.measures.task import Task
from lcam_cli.measures.through_map import ThroughMap, pearson
from lcam_cli.measures.view import BatchView, MapView
from lcam_cli.methods.base import Maps
from lcam_cli.methods.explain import ClassChoice
from lcam_cli.methods.gradient import GradCam
from lcam_cli.methods.lent import NetworkChangedError
from lcam_cli.methods.noise import RandomMap
from tests.tiny import SMALL, tiny_backbone, tiny_network, write_pictures

AGAIN = ("coherency", "adcc", "sensitivity")
CLASSES = (0, 3)
MEAN, STD = (torch.tensor(v).view(1, 3, 1, 1) for v in (SMALL.mean, SMALL.std))

Numbers = dict[str, NDArray[np.float32]]


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    return write_pictures(tmp_path / "pictures", 5)


@cache
def backbone() -> Backbone:
    return tiny_backbone()


def new_engine(batch_size: int = 8) -> Engine:
    engine = Engine(backbone(), device="cpu", precision="fp32", batch_size=batch_size)
    engine.align = False  # as the other implementations draw maps
    return engine


def pixels(engine: Engine, paths: list[str]) -> Tensor:
    read = next(stream_batches(paths, engine.backbone.preprocess, len(paths), workers=1))
    return engine.pixels(read.images)


def measured(
    paths: list[str],
    method: Any = None,
    names: tuple[str, ...] = AGAIN,
    nus: tuple[float, ...] = (100.0,),
    batch_size: int = 8,
    **more: Any,
) -> Numbers:
    """The numbers of a sweep by the measure's name, (N, C), of the first ν."""
    task = Task(paths, ClassChoice(CLASSES), nus, make_measures(names), **more)
    candidate = Candidate("one", method or GradCam(), PictureScores.empty(task, (32, 32)))
    sweep(new_engine(batch_size), [candidate], task, workers=1)
    assert candidate.scores.scored.all(), candidate.last_failure
    numbers: Numbers = {}
    for quantity, rows in zip(task.quantities, task.parts.slices, strict=True):
        numbers.setdefault(quantity.measure.name, candidate.scores.numbers[rows][0])
    return numbers


class Plain:
    """Grad-CAM and the measures' formulas in plain PyTorch and NumPy."""

    def __init__(self) -> None:
        self.network = tiny_network().eval()

    def explain(self, given: Tensor, r: int) -> tuple[NDArray[np.float64], float]:
        """V (H, W) of one normalised image, and the softmax score of the class."""
        A = self.network[:4](given).detach().requires_grad_()
        logits = self.network[4:](A)
        (g,) = torch.autograd.grad(logits[0, r], A)
        L = (g.mean((2, 3), keepdim=True) * A).sum(1).relu()[0].detach()
        L = (L - L.min()) / (L.max() - L.min())
        V = F.interpolate(L[None, None], (32, 32), mode="bilinear", align_corners=False)[0, 0]
        return V.double().numpy(), float(logits.softmax(1)[0, r].detach())

    def adcc(self, x: Tensor, r: int, space: str) -> tuple[float, float]:
        """Coherency and ADCC of an image, (1, 3, H, W) in [0, 1], in percent."""
        given = (x - MEAN) / STD
        V, y = self.explain(given, r)
        mask = torch.from_numpy(V).float()
        masked = given * mask if space == "normalized" else (x * mask - MEAN) / STD
        W, o = self.explain(masked, r)
        coherency = (np.corrcoef(V.ravel(), W.ravel())[0, 1] + 1) / 2
        complexity = abs(V).sum() / V.size
        drop = max(0.0, y - o) / y
        return 100 * coherency, 300 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - drop))


@pytest.mark.parametrize("space", ["pixel", "normalized"])
@pytest.mark.parametrize("keep", ["values", "whole"])
def test_coherency_and_adcc_are_the_papers(paths: list[str], space: str, keep: str) -> None:
    found = measured(paths, space=space, keep=keep)
    x = pixels(new_engine(), paths)
    for i in range(len(paths)):
        for c, r in enumerate(CLASSES):
            coherency, adcc = Plain().adcc(x[i : i + 1], r, space)
            assert found["coherency"][i, c] == pytest.approx(coherency, abs=1e-3)
            assert found["adcc"][i, c] == pytest.approx(adcc, abs=1e-3)
    assert found["coherency"].std() > 1, "else nothing was measured"


def view_of(paths: list[str], r: int = 0, space: str = "pixel", method: Any = None) -> MapView:
    engine = new_engine()
    forward = engine.forward(pixels(engine, paths))
    classes = torch.full((len(paths),), r)
    V = GradCam()(engine, forward, classes).saliency
    batch = BatchView(engine, forward, space)
    return MapView(batch, V, classes, forward.confidence(classes), method or GradCam())


def test_coherency_is_that_of_grad_cams_metrics(paths: list[str]) -> None:
    arcc = pytest.importorskip("pytorch_grad_cam.metrics.arcc")
    view = view_of(paths, space="normalized")
    engine = view.batch.engine

    def again(input_tensor: Tensor, targets: Any) -> NDArray[np.float32]:
        forward = engine.forward(input_tensor * STD + MEAN)
        return GradCam()(engine, forward, view.classes).saliency.numpy()

    expected = arcc.Coherency()(engine.normalise(view.batch.x), view.V.numpy(), [], None, again)
    found = (ThroughMap().scores(view)[0] + 1) / 2
    assert found.numpy() == pytest.approx(expected, abs=1e-4)
    complexity = arcc.Complexity()(view.V.numpy())
    ours = measured(paths, names=("complexity",))["complexity"][:, 0]
    assert ours == pytest.approx(100 * complexity, abs=1e-2)


def test_sensitivity_is_quantus_of_the_same_draws(paths: list[str]) -> None:
    quantus = pytest.importorskip("quantus")
    view = view_of(paths)
    engine, neighbours = view.batch.engine, Sensitivity.neighbours
    draws: Iterator[int] = iter(range(neighbours.draws))

    def perturb(arr: NDArray[Any], **_: Any) -> NDArray[Any]:
        return neighbours.of(view.batch, next(draws)).numpy().reshape(arr.shape)

    def explain(model: Any, inputs: NDArray[Any], targets: Any, **_: Any) -> NDArray[np.float32]:
        forward = engine.forward(torch.from_numpy(np.asarray(inputs, np.float32)))
        return GradCam()(engine, forward, view.classes).saliency[:, None].numpy()

    metric = quantus.MaxSensitivity(
        nr_samples=neighbours.draws, perturb_func=perturb, disable_warnings=True
    )
    expected = metric(
        model=tiny_network().eval(),
        x_batch=view.batch.x.contiguous().numpy(),
        y_batch=view.classes.numpy(),
        a_batch=view.V[:, None].numpy(),
        explain_func=explain,
        device="cpu",
    )
    found = Sensitivity().numbers(scores_of(view, neighbours), 100)
    assert found.numpy() == pytest.approx(np.array(expected), abs=1e-4)
    assert found.min() > 0.01, "else nothing was measured"
    assert measured(paths)["sensitivity"][:, 0] == pytest.approx(np.array(expected), abs=1e-4)


def test_sensitivity_is_captums_of_the_same_draws(paths: list[str]) -> None:
    metrics = pytest.importorskip("captum.metrics")
    view = view_of(paths)
    engine, neighbours = view.batch.engine, Sensitivity.neighbours
    draws = iter(range(neighbours.draws))

    def perturb(_x: torch.Tensor, _radius: float) -> torch.Tensor:
        return neighbours.of(view.batch, next(draws))

    def explain(inputs: torch.Tensor | tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        x = inputs[0] if isinstance(inputs, tuple) else inputs
        return (GradCam()(engine, engine.forward(x), view.classes).saliency,)

    expected = metrics.sensitivity_max(
        explain,
        view.batch.x,
        perturb_func=perturb,
        n_perturb_samples=neighbours.draws,
        max_examples_per_batch=len(paths),  # one draw of all images at a time
    )
    found = Sensitivity().numbers(scores_of(view, neighbours), 100)
    assert found.numpy() == pytest.approx(expected.numpy(), abs=1e-4)
    assert found.min() > 0.01, "else nothing was measured"


def scores_of(view: MapView, *wanted: Any) -> MapScores:
    return MapScores(view.V, view.full, {one: one.scores(view) for one in wanted})


def test_sensitivity_by_hand(paths: list[str]) -> None:
    scores = MapScores(torch.ones(3, 2, 2), torch.ones(3), {})
    one, nan = 0.25, float("nan")
    rows = torch.tensor([[0.1, 0.0, one], [one, 0.0, nan]])
    scores = MapScores(scores.V, scores.full, {Sensitivity.neighbours: rows})
    assert Sensitivity().numbers(scores, 100)[:2].tolist() == [one, 0]
    assert Sensitivity().numbers(scores, 100)[2].isnan()


def test_draws_depend_on_the_picture_alone(paths: list[str]) -> None:
    whole, small = measured(paths), measured(paths, batch_size=2)
    turned = measured(paths[::-1])
    for name in AGAIN:
        assert small[name] == pytest.approx(whole[name], abs=1e-3), name
        assert turned[name][::-1] == pytest.approx(whole[name], abs=1e-3), name
    view = view_of(paths)
    near = [Neighbours(radius=0.1).of(view.batch, k) - view.batch.x for k in range(2)]
    assert not near[0].equal(near[1])
    assert not near[0][0].equal(near[0][1])
    inside = (view.batch.x > 0.1) & (view.batch.x < 0.9)
    assert 0.099 < near[0][inside].abs().max() <= 0.1001
    assert abs(float(near[0][inside].mean())) < 0.01
    black = BatchView(view.batch.engine, view.batch.engine.forward(0 * view.batch.x), "pixel")
    assert Neighbours().of(black, 0).min() >= 0
    assert not Neighbours(seed=1).of(black, 0).equal(Neighbours().of(black, 0))


def test_adcc_by_hand() -> None:
    # Coherency 0.5, 1 − complexity 0.75 and 1 − drop 0.6: 3 / (2 + 4/3 + 5/3).
    V = torch.full((4, 2, 2), 0.25)
    full = torch.tensor([0.5, 0.5, 0.5, 0.0])
    rows = torch.tensor([[0.0, -1.0, float("nan"), 0.0], [0.3, 0.3, 0.3, 0.3]])
    numbers = Adcc().numbers(MapScores(V, full, {ThroughMap(): rows}), 100)
    assert numbers[:2].tolist() == pytest.approx([60, 0])
    assert numbers[2:].isnan().all(), "no coherency; no drop of a score of 0"
    nothing_kept = torch.tensor([[0.5] * 4, [0.0] * 4])
    assert Adcc().numbers(MapScores(V, full, {ThroughMap(): nothing_kept}), 100)[0] == 0
    all_shown = MapScores(torch.ones(4, 2, 2), full, {ThroughMap(): rows})
    assert Adcc().numbers(all_shown, 100)[0] == 0


def test_pearson_by_hand() -> None:
    V = torch.tensor([[[0.0, 1.0]]] * 5 + [[[0.5, 0.5]], [[float("nan"), 1.0]]])
    W = torch.tensor([[[0.2, 0.4]], [[1, 0]], [[0.3, 0.3]], [[0, 0]], [[float("nan")] * 2]])
    W = torch.cat([W, V[:2]])
    found = pearson(V, W)
    assert found[:2].tolist() == pytest.approx([1, -1])
    assert found[2:].isnan().all(), "flat, zeros, NaN"
    assert pearson(torch.rand(3, 1, 1), torch.rand(3, 1, 1)).isnan().all(), "one pixel"
    near = torch.full((1, 64, 64), 0.1)
    assert pearson(near, torch.rand(1, 64, 64)).isnan().all(), "0.1 is no round number"


@pytest.mark.parametrize("space", ["pixel", "normalized"])
def test_seen_through_a_map_is_what_ad_at_100_sees(paths: list[str], space: str) -> None:
    view = view_of(paths, space=space)
    engine, batch = view.batch.engine, view.batch
    expected = engine.masked_confidence(batch.x, view.V, view.classes, space)
    assert view.masked.confidence(view.classes).numpy() == pytest.approx(expected.numpy(), abs=1e-6)
    black = batch.hidden[0, :, 0, 0]
    assert black.tolist() == pytest.approx([0, 0, 0] if space == "pixel" else SMALL.mean)
    assert Kept(100).scores(view).equal(view.masked.confidence(view.classes))
    with_others = measured(paths, space=space, names=("ad", "coherency"))["ad"]
    alone = measured(paths, space=space, names=("ad",))["ad"]
    assert with_others == pytest.approx(alone, abs=1e-3)


def test_little_memory_changes_nothing(paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measured(paths)
    forward = Engine._features_and_logits

    def small(self: Engine, x: Tensor) -> tuple[Tensor, ...]:
        if len(x) > 2:
            raise RuntimeError("CUDA out of memory")
        return forward(self, x)

    monkeypatch.setattr(Engine, "_features_and_logits", small)
    for name, numbers in measured(paths).items():
        assert numbers == pytest.approx(whole[name], abs=1e-3), name


class FailsAgain:
    """A method of another package; on images that a test names it does what a test says."""

    name, forward_passes = "odd", 1

    def __init__(self, fail: Callable[[Engine, Maps], Any], on: int) -> None:
        self.params: dict[str, Any] = {}
        self._fail, self._on = fail, on
        self._again: Tensor | None = None

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Any:
        maps = GradCam()(engine, forward, classes)
        if self._again is None:  # the images themselves
            self._again = torch.lerp(
                torch.zeros(1), forward.x[self._on], maps.saliency[self._on][None]
            )
        near = (forward.x - self._again).abs().amax((1, 2, 3)) < 1e-6
        return self._fail(engine, maps) if near.any() else maps


def fails(_engine: Engine, _maps: Maps) -> Any:
    raise ZeroDivisionError("two\nlines")


def refuses(_engine: Engine, _maps: Maps) -> Any:
    raise LcamError("it is too dark")


def outside(_engine: Engine, maps: Maps) -> Maps:
    return Maps(maps.saliency * 3)


@pytest.mark.parametrize("fail", [fails, refuses, outside])
def test_a_method_that_fails_on_a_masked_picture_keeps_its_other_numbers(
    paths: list[str],
    fail: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("lcam"), "propagate", True)
    names = ("ad", "coherency", "adcc", "sparseness")
    task = Task(paths, nus=(100.0, 50.0), measures=make_measures(names))
    odd = Candidate("odd", FailsAgain(fail, on=1), PictureScores.empty(task, (32, 32)))
    well = Candidate("gradcam", GradCam(), PictureScores.empty(task, (32, 32)))
    with caplog.at_level(logging.WARNING, "lcam"):
        sweep(new_engine(), [odd, well], task, workers=1)
    assert odd.scores.scored.all()
    lacking = np.isnan(odd.scores.numbers[..., 0])
    for quantity, missing in zip(task.quantities, lacking, strict=True):
        again = quantity.measure.explains_again
        assert missing.nonzero()[0].tolist() == ([1] if again else []), quantity
    np.testing.assert_allclose(
        odd.scores.numbers[~lacking], well.scores.numbers[..., 0][~lacking][:, None], atol=1e-3
    )
    (said,) = (one.message for one in caplog.records)
    assert said.startswith("odd fails when it explains again: ")
    assert "\n" not in said


def test_maps_that_are_not_finite_are_no_others(paths: list[str]) -> None:
    found = measured(paths, FailsAgain(lambda _, maps: Maps(maps.saliency * np.nan), on=1))
    assert np.isnan(found["coherency"][1, 0])
    assert np.isfinite(found["sensitivity"]).all()


def test_a_method_that_changes_the_classifier_ends_the_run(paths: list[str]) -> None:
    def changes(engine: Engine, maps: Maps) -> Maps:
        engine.backbone.network.train()
        return maps

    with pytest.raises(NetworkChangedError, match="changes the classifier's mode"):
        measured(paths, FailsAgain(changes, on=1))
    backbone().network.eval()


class Flat:
    """One value everywhere."""

    name, forward_passes = "flat", 1

    def __init__(self, value: float) -> None:
        self.params: dict[str, Any] = {}
        self._value = value

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        return Maps(torch.full_like(forward.x[:, 0], self._value))


def test_flat_maps_have_no_coherency(paths: list[str]) -> None:
    for value in (0.0, 0.3, 1.0):
        found = measured(paths, Flat(value), (*AGAIN, "complexity", "ad"))
        assert np.isnan(found["coherency"]).all()
        assert np.isnan(found["adcc"]).all()
        assert found["complexity"] == pytest.approx(np.full((5, 2), 100 * value), abs=1e-3)
        if value:
            assert (found["sensitivity"] == 0).all()
        else:
            assert np.isnan(found["sensitivity"]).all(), "there is nothing to change"
        assert np.isfinite(found["ad"]).all()


def test_noise_has_a_coherency_of_half(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, 24)
    found = measured(paths, RandomMap())
    assert abs(found["coherency"].mean() - 50) < 4
    assert found["sensitivity"].min() > 0.3, "another image, other noise"


class Brighter(GradCam):
    """The same maps, brighter: V to a power."""

    def __init__(self, power: float) -> None:
        super().__init__()
        self._power = power

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        maps = super().__call__(engine, forward, classes)
        return Maps(maps.saliency.clamp_min(0) ** self._power)


def test_brightness_does_not_matter_where_pixels_are_kept_whole(paths: list[str]) -> None:
    names, nus = ("ad", "ic", "ag"), (50.0, 15.0)
    for keep, same in (("whole", True), ("values", False)):
        one, other = (
            measured(paths, Brighter(power), names, nus, keep=keep) for power in (1.0, 0.3)
        )
        equal = {name: np.array_equal(one[name], other[name]) for name in names}
        assert equal["ad"] == same
        assert all(equal.values()) or not same
    at_100 = measured(paths, keep="whole", names=(*names, "adcc"))
    assert (at_100["ad"] == 0).all()
    assert (at_100["ic"] == 0).all()
    assert (at_100["ag"] == 0).all()
    assert at_100["adcc"] == pytest.approx(measured(paths)["adcc"], abs=1e-3)


def test_what_they_say_of_themselves() -> None:
    for measure in (Coherency(), Adcc(), Sensitivity()):
        assert measure.explains_again
        assert measure.cost
        assert measure.source
        assert "{maps}" in measure.left_out
    assert Sensitivity().settings == {"draws": 10, "radius": 0.02, "seed": 0}
