"""How many steps a run takes: enough, but as many epochs as the user says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open

from lcam_cli.training.log import read_log
from lcam_cli.training.recipes import OWN_RECIPES, Recipe, recipe_for
from tests.cli import job
from tests.cli.job import Lcam

lcam = job.lcam


@pytest.mark.parametrize(
    ("pictures", "batch_size", "epochs"),
    [
        (30, 32, 120),
        (1, 32, 120),
        (33, 32, 60),
        (320, 32, 12),
        (320, 64, 24),
        (640, 32, 6),
        (1600, 32, 6),
        (1_281_167, 32, 6),
    ],
)
def test_few_pictures_are_met_more_often(pictures: int, batch_size: int, epochs: int) -> None:
    """At least 120 steps."""
    recipe = replace(recipe_for("auto", "resnet50"), batch_size=batch_size)
    fitted = recipe.fitted(pictures)
    assert fitted.epochs == epochs
    assert fitted.fitted(pictures) == fitted
    steps = -(-pictures // batch_size)
    assert fitted.epochs * steps >= 120
    assert fitted.epochs == recipe.epochs or (fitted.epochs - 1) * steps < 120


def test_only_auto_of_img_fm_and_tame_has_a_least_number_of_steps() -> None:
    assert {mode for mode, recipe in OWN_RECIPES.items() if recipe.min_steps} == {"tame"}
    for name in ("paper", "reference"):
        for backbone in ("vgg16", "resnet50"):
            recipe = recipe_for(name, backbone)
            assert recipe.fitted(30).epochs == recipe.epochs
            assert (recipe.kernel, recipe.shown, recipe.lambda_drop) == (0, "all", 0)


def _train(lcam: Lcam, *words: str) -> Recipe:
    """Train on the images; the recipe as the attention file records it."""
    network = ("--backbone", "own.py:net", "--weights", "none", "--image-size", "32")
    few = ("--workers", "1", "--device", "cpu", "--keep-aside", "0")
    done = lcam("train", "photos", *network, *few, "--out", "run", "--overwrite", *words)
    assert done.code == 0, done.err
    with safe_open("run/attention.safetensors", framework="pt") as opened:
        training = json.loads(opened.metadata()["training"])
    recipe = Recipe(**{name: training[name] for name in Recipe.__dataclass_fields__})
    pictures = training["pictures"]
    assert len(read_log(Path("run/log.csv"))) == recipe.epochs * -(-pictures // recipe.batch_size)
    assert f"{recipe.epochs} epoch" in done.err
    return recipe


@pytest.fixture
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job.begin(tmp_path, monkeypatch, "from tests.tiny import tiny_network as net\n", 6)


@pytest.mark.usefixtures("_folder")
def test_epochs_that_are_given_are_obeyed_exactly(lcam: Lcam) -> None:
    assert _train(lcam, "--epochs", "3", "--batch-size", "4").epochs == 3
    assert _train(lcam, "--epochs", "2", "--mode", "tame").epochs == 2


@pytest.mark.slow
@pytest.mark.usefixtures("_folder")
def test_without_epochs_there_are_120_steps(lcam: Lcam) -> None:
    assert _train(lcam, "--mode", "fm").epochs == 120
    assert _train(lcam, "--mode", "fm", "--batch-size", "4").epochs == 60


@pytest.mark.usefixtures("_folder")
@pytest.mark.parametrize("mode", ["img", "fm", "tame"])
def test_loss_ce_is_ce_alone_on_the_whole_map(mode: str, lcam: Lcam) -> None:
    recipe = _train(lcam, "--epochs", "1", "--loss", "ce", "--mode", mode)
    weights = (recipe.lambda_tv, recipe.lambda_av, recipe.lambda_ce, recipe.lambda_drop)
    assert weights == (0, 0, 1, 0)
    assert recipe.shown == "all"
    (row,) = read_log(Path("run/log.csv"))
    assert row["loss"] == row["ce"] > 0


@pytest.mark.usefixtures("_folder")
def test_auto_is_the_drop_alone_and_paper_s_ce_keeps_its_weight(lcam: Lcam) -> None:
    recipe = _train(lcam, "--epochs", "1")
    assert (recipe.shown, recipe.kernel) == ("part", 5)
    (row,) = read_log(Path("run/log.csv"))
    assert row["loss"] == row["drop"] > 0
    words = ("--epochs", "1", "--mode", "fm", "--loss", "ce")
    assert _train(lcam, *words, "--recipe", "paper").lambda_ce == 1.5
    assert _train(lcam, *words, "--lambda-ce", "3").lambda_ce == 3
