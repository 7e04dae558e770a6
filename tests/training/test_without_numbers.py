"""Pictures on which the classifier's scores are no numbers: training goes on without them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.methods.attention_file import FILE_NAME, load_attention
from lcam_cli.networks.network import Network
from lcam_cli.training.loop import TrainingSettings, train
from lcam_cli.training.recipes import Mode, Recipe, recipe_for
from lcam_cli.training.rows import FreeRows, random_rows
from lcam_cli.training.step import NonFiniteScoresError, Trainer
from tests.tiny import SMALL, Standardised, write_pictures

REASON = "the classifier's scores are not finite on this image"


@pytest.fixture
def engine() -> Engine:
    network = Network(Standardised().eval(), "standardised", "none", preprocess=SMALL)
    return Engine(Backbone(network, "features.3"), device="cpu")


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """Five images, and two of one colour behind them."""
    paths = write_pictures(tmp_path / "pictures", 5)
    for grey in (0, 255):
        paths.append(str(tmp_path / f"{grey}.png"))
        Image.new("RGB", (50, 40), (grey,) * 3).save(paths[-1])
    return paths


@pytest.fixture(autouse=True)
def _no_fitting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of seven images and one of five have the same number of steps."""
    monkeypatch.setattr(Recipe, "fitted", lambda recipe, _pictures: recipe)


def settings(mode: Mode, name: str, batch_size: int = 8, epochs: int = 3) -> TrainingSettings:
    recipe = replace(recipe_for(name, "resnet50", mode), epochs=epochs, batch_size=batch_size)
    return TrainingSettings(mode, recipe, seed=5, workers=1)


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def weights(engine: Engine, paths: list[str], out: Path, run: TrainingSettings) -> list[Tensor]:
    train(engine, paths, folder(out), run)
    return list(load_attention(out / FILE_NAME).attention.tensors().values())


@pytest.mark.parametrize(("mode", "recipe"), [("img", "auto"), ("img", "paper"), ("fm", "paper")])
def test_the_run_is_that_of_the_others_alone(
    mode: Mode, recipe: str, engine: Engine, pictures: list[str], tmp_path: Path
) -> None:
    """All in one batch; they come in another order there, so that sums are rounded otherwise.

    Recipe ``auto`` lets rounding choose a factor of W, which changes no map: Adam takes a whole
    step along a gradient that is nothing else.
    """
    told: list[Skipped] = []
    train(engine, pictures, folder(tmp_path / "all"), settings(mode, recipe), skip=told.append)
    assert sorted(told, key=lambda one: one.path) == [
        Skipped(path, REASON) for path in sorted(pictures[5:])
    ], "each once in three epochs"
    left = load_attention(tmp_path / "all" / FILE_NAME).attention.tensors().values()
    alone = weights(engine, pictures[:5], tmp_path / "alone", settings(mode, recipe))
    for one, other in zip(left, alone, strict=True):
        assert one.isfinite().all()
        size = [t.norm().clamp_min(1e-9) if recipe == "auto" else 1 for t in (one, other)]
        torch.testing.assert_close(one / size[0], other / size[1], rtol=1e-3, atol=1e-3)


def test_twice_the_same_and_stopped_the_same(
    engine: Engine, pictures: list[str], tmp_path: Path
) -> None:
    run = settings("img", "auto", batch_size=3, epochs=2)
    whole = weights(engine, pictures, tmp_path / "whole", run)
    again = weights(engine, pictures, tmp_path / "again", run)
    stops = iter([False, False, True])
    train(engine, pictures, folder(tmp_path / "parts"), run, stop=lambda: next(stops, False))
    train(engine, pictures, tmp_path / "parts", run, resume=True)
    parts = load_attention(tmp_path / "parts" / FILE_NAME).attention.tensors().values()
    for one, two, three in zip(whole, again, parts, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


def test_a_batch_of_them_alone_moves_nothing(
    engine: Engine, pictures: list[str], tmp_path: Path
) -> None:
    told: list[Skipped] = []
    train(engine, pictures, tmp_path, settings("img", "auto", 1, 1), skip=told.append)
    assert {one.path for one in told} == set(pictures[5:])
    assert all(
        tensor.isfinite().all()
        for tensor in load_attention(tmp_path / FILE_NAME).attention.tensors().values()
    )


@pytest.mark.parametrize("recipe", ["auto", "paper"])
def test_where_all_are_so_one_error_says_so(
    recipe: str, engine: Engine, pictures: list[str], tmp_path: Path
) -> None:
    told: list[Skipped] = []
    with pytest.raises(LcamError, match="not finite on any of the 2 images") as caught:
        train(engine, pictures[5:], tmp_path, settings("img", recipe), skip=told.append)
    assert told == []
    assert "weights hold no NaN" in caught.value.hint
    assert "fp32" not in caught.value.hint, "it was fp32"


def test_the_start_looks_further_where_its_first_pictures_are_so(
    engine: Engine, pictures: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lcam_cli.training.start._PICTURES", 1)
    seed = next(s for s in range(99) if np.random.default_rng([s]).permutation(4)[0] > 1)
    run = replace(settings("img", "auto", epochs=1), seed=seed)
    for tensor in weights(engine, pictures[3:], tmp_path / "run", run):
        assert tensor.isfinite().all()


def test_a_step_tells_which_and_leaves_all_as_it_was(engine: Engine) -> None:
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    x[1] = 0.5

    def step(given: Tensor) -> tuple[FreeRows, Callable[[], tuple[int, dict[str, float]]]]:
        rows = FreeRows(*random_rows(4, 6, seed=0))
        recipe = recipe_for("paper", "resnet50")
        return rows, lambda: Trainer(engine, rows, recipe, "img").step(given, 1.0)

    rows, take = step(x)
    before, chance = rows.W.detach().clone(), torch.get_rng_state()
    with pytest.raises(NonFiniteScoresError) as caught:
        take()
    assert caught.value.finite.tolist() == [True, False, True, True]
    assert torch.equal(rows.W, before)
    assert torch.equal(torch.get_rng_state(), chance)
    rows, take = step(x[caught.value.finite])
    count, terms = take()
    assert count == 3
    assert all(map(math.isfinite, terms.values()))
