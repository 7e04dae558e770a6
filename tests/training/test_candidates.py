"""What a run may leave: where it started, and what it learned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lcam_cli.engine.engine import Engine
from lcam_cli.methods.attention_file import load_attention
from lcam_cli.methods.base import Method
from lcam_cli.methods.lcam import LCam
from lcam_cli.training.candidates import LEARNED, START, Choice
from lcam_cli.training.loop import TrainingSettings, train
from lcam_cli.training.recipes import Mode, Recipe, recipe_for
from lcam_cli.training.results import SELECTION
from tests.tiny import tiny_backbone, write_pictures

RECORD = {"pictures": 3, "candidates": {"start": {"mean_ad": {"mean": 1.5}}}}


def engine() -> Engine:
    return Engine(tiny_backbone(), device="cpu")


def settings(mode: Mode = "img", **changes: Any) -> TrainingSettings:
    recipe = replace(recipe_for("auto", "tiny", mode), epochs=3, batch_size=4)
    recipe = replace(recipe, min_steps=0, **changes)
    return TrainingSettings(mode, recipe, seed=5, workers=1)


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(Recipe, "fitted", lambda recipe, _pictures: recipe)  # no more epochs
    return write_pictures(tmp_path / "pictures", 8)


def weights(method: Method) -> torch.Tensor:
    assert isinstance(method, LCam)
    return method._attention.W


@pytest.mark.parametrize("name", [START, LEARNED])
def test_what_is_chosen_is_what_the_run_leaves(name: str, paths: list[str], tmp_path: Path) -> None:
    given: dict[str, torch.Tensor] = {}

    def choose(candidates: Mapping[str, Method]) -> Choice:
        given.update({key: weights(one) for key, one in candidates.items()})
        return Choice(name, RECORD)

    out = tmp_path / "run"
    out.mkdir()
    file = train(engine(), paths, out, settings(), choose=choose)
    assert file is not None
    assert list(given) == [START, LEARNED]
    linear = tiny_backbone().linear_head()
    assert linear is not None
    ratio = given[START] / linear.weight.detach()  # ζ takes any factor away again
    torch.testing.assert_close(ratio, torch.full_like(ratio, float(ratio[0, 0])))
    assert not torch.allclose(given[LEARNED], given[START], rtol=1e-3)
    attention = load_attention(file)
    assert torch.equal(attention.attention.tensors()["weight"], given[name])
    assert attention.settings is not None
    assert attention.settings.training["selection"] == RECORD
    assert json.loads((out / SELECTION).read_text()) == RECORD
    # Where nobody chooses, it is what was learned, and nothing is said of a selection.
    plain = tmp_path / "plain"
    plain.mkdir()
    file = train(engine(), paths, plain, settings())
    assert file is not None
    unchosen = load_attention(file)
    assert torch.equal(unchosen.attention.tensors()["weight"], given[LEARNED])
    assert unchosen.settings is not None
    assert "selection" not in unchosen.settings.training
    assert not (plain / SELECTION).exists()


@pytest.mark.parametrize("mode", ["img", "amg", "tame", "bla"])
def test_a_stopped_run_has_the_same_candidates_and_may_be_stopped_while_it_chooses(
    mode: Mode, paths: list[str], tmp_path: Path
) -> None:
    for run in ("whole", "stopped"):
        (tmp_path / run).mkdir()
    seen: dict[str, list[Any]] = {"whole": [], "stopped": []}

    def choosing(run: str, *, stopped: bool = False) -> Any:
        def choose(candidates: Mapping[str, Method]) -> Choice | None:
            seen[run].append(candidates)
            return None if stopped else Choice("start", RECORD)

        return choose

    run = settings(mode)
    whole = train(engine(), paths, tmp_path / "whole", run, choose=choosing("whole"))
    batches = 0
    for go, at in enumerate((1, 2, 5, 99, 99)):  # of 3 epochs with 2 batches each

        def stop(at: int = at) -> bool:
            nonlocal batches
            batches += 1
            return batches == at

        choose = choosing("stopped", stopped=go == 3)
        out = tmp_path / "stopped"
        ended = train(engine(), paths, out, run, resume=go > 0, stop=stop, choose=choose)
        assert (ended is None) == (go < 4)
    assert len(seen["stopped"]) == 2
    for candidates in seen["stopped"]:
        for name, method in candidates.items():
            assert same(method, seen["whole"][0][name])
    assert whole is not None
    assert ended is not None
    assert whole.read_bytes() == ended.read_bytes()


def same(one: Method, other: Method) -> bool:
    """Whether two methods explain with the same numbers."""
    learned = [
        next(v for v in vars(method).values() if hasattr(v, "tensors")) for method in (one, other)
    ]
    ours, theirs = (each.tensors() for each in learned)
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_dropout_that_was_trained_with_is_off_while_candidates_are_compared(
    tmp_path: Path,
) -> None:
    from tests.training.test_loop import _with_dropout

    paths = write_pictures(tmp_path / "pictures", 4)
    dropping = _with_dropout()
    modules = [m for m in dropping.backbone.network.modules() if isinstance(m, torch.nn.Dropout)]
    recipe = replace(recipe_for("reference", "vgg16"), epochs=1, batch_size=4)
    was: list[bool] = []

    def choose(_candidates: Mapping[str, Method]) -> Choice:
        was.extend(module.training for module in modules)
        return Choice("learned", {})

    def stop() -> bool:
        was.extend(module.training for module in modules)
        return False

    run = TrainingSettings("img", recipe, seed=5, workers=1)
    train(dropping, paths, tmp_path, run, stop=stop, choose=choose)
    assert was == [True, False]
