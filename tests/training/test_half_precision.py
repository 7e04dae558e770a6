"""Training on a network in half precision: what is learned stays float32, and learns the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lcam_cli.engine import half
from lcam_cli.engine import hardware as hardwares
from lcam_cli.engine.device import Hardware
from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.measures.drops import Measured, measure_drops
from lcam_cli.measures.selection import DROPS, SHOWN, select
from lcam_cli.methods.attention_file import load_attention
from lcam_cli.methods.base import Method
from lcam_cli.methods.registry import make_method
from lcam_cli.training.candidates import START, Choice, Choose
from lcam_cli.training.checkpoint import CHECKPOINT
from lcam_cli.training.learned import masked_logits
from lcam_cli.training.log import read_log
from lcam_cli.training.loop import TrainingSettings, train
from lcam_cli.training.losses import MaskedBatch, relative_drop
from lcam_cli.training.nonfinite import FAILED_BATCH
from lcam_cli.training.recipes import Mode, Recipe, recipe_for
from lcam_cli.training.rows import SharedRows, classifier_rows
from lcam_cli.training.step import Trainer, backward
from tests.tiny import tiny_backbone, training_batch, write_pictures

AUTO = recipe_for("auto", "tiny")
HALF = ["bf16", "fp16"]


@pytest.fixture(autouse=True)
def _fp16_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command refuses it there, because it is slow; the code is CUDA's."""

    def hardware(_device: str = "", precision: str = "", _use: str = "") -> Hardware:
        return Hardware(torch.device("cpu"), precision)

    monkeypatch.setattr(hardwares, "choose_hardware", hardware)


def engine_of(precision: str, *, sure: float = 1.0) -> Engine:
    """With a head whose weights are ``sure`` times as large: its scores fall when it is masked."""
    backbone = tiny_backbone()
    with torch.no_grad():
        backbone.network[6].weight.mul_(sure)
        backbone.network[6].bias.zero_()
    return Engine(backbone, device="cpu", precision=precision)


@pytest.fixture
def x() -> Tensor:
    return torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def mask_gradients(engine: Engine, x: Tensor, y: Tensor, factor: float = 1.0) -> Tensor:
    """Gradients (B, P·Q) of the loss, times a factor, by the cells of one and the same mask."""
    batch = replace(training_batch(engine, x), y=y)
    S = torch.rand(len(x), 8, 8, generator=torch.Generator().manual_seed(2)).requires_grad_()
    logits = masked_logits(engine, batch, S, engine.backbone.grid, AUTO)
    (factor * relative_drop(MaskedBatch(batch.forward, y, S, logits))).backward()
    assert S.grad is not None
    assert S.grad.dtype == torch.float32
    return S.grad.flatten(1)


@pytest.mark.parametrize(("precision", "least"), [("bf16", 0.99), ("fp16", 0.9999)])
def test_the_gradient_to_the_mask_points_where_it_does_in_float32(
    precision: str, least: float, x: Tensor
) -> None:
    exact = engine_of("fp32", sure=30)
    y = exact.forward(x).predicted
    expected = mask_gradients(exact, x, y)
    found = mask_gradients(engine_of(precision, sure=30), x, y)
    assert (expected.norm(dim=1) > 0).any()
    cosine = torch.cosine_similarity(expected, found, dim=1)[expected.norm(dim=1) > 0]
    assert float(cosine.min()) > least
    torch.testing.assert_close(found.norm(), expected.norm(), rtol=0.02, atol=0)


def test_small_gradients_do_not_vanish_in_float16(
    x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """float16 ends at 6e-8; within the network gradients are a thousand times as large."""
    engine, small = engine_of("fp16", sure=30), 2.0**-12
    y = engine.forward(x).predicted
    exact = mask_gradients(engine_of("fp32", sure=30), x, y)

    def error() -> float:
        away = mask_gradients(engine, x, y, small) / small - exact
        return float(away.norm() / exact.norm())

    assert error() < 0.01
    monkeypatch.setattr(half, "_GRADIENT_SCALE", 1.0)
    assert error() > 0.1


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("mode", ["img", "fm"])
def test_what_is_learned_its_gradients_and_the_optimisers_stay_float32(
    precision: str, mode: Mode, x: Tensor
) -> None:
    engine = engine_of(precision)
    rows = SharedRows(classifier_rows(engine, x), torch.ones(6), AUTO.kernel)
    trainer = Trainer(engine, rows, AUTO, mode)
    trainer.step(x, 1.0)
    kept = [*rows.parameters(), *rows.buffers()]
    kept += [p.grad for p in rows.parameters() if p.grad is not None]
    kept += [
        value
        for optimiser in trainer.optimisers
        for state in optimiser.state.values()
        for value in state.values()
        if torch.is_tensor(value)
    ]
    assert len(kept) > 10
    assert {tensor.dtype for tensor in kept} == {torch.float32}


@pytest.mark.parametrize("mode", ["img", "fm"])
def test_a_run_in_half_precision_learns_and_chooses_what_one_in_float32_does(
    mode: Mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recipe, "fitted", lambda recipe, _pictures: recipe)
    paths = write_pictures(tmp_path / "pictures", 20)
    recipe = replace(AUTO, epochs=8, batch_size=4, lr=0.01)
    settings = TrainingSettings(mode, recipe, seed=3, workers=1)
    others = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(9))
    forward = engine_of("fp32", sure=30).forward(others)
    maps, losses, chosen = {}, {}, {}
    for precision in ("fp32", *HALF):
        engine, out = engine_of(precision, sure=30), tmp_path / precision
        out.mkdir()
        file = train(engine, paths[:12], out, settings, choose=choosing(engine, paths[12:]))
        assert file is not None
        loaded = load_attention(file)
        assert loaded.settings is not None
        assert loaded.settings.training["precision"] == precision
        chosen[precision] = loaded.settings.training["selection"]["chosen"]
        L = loaded.attention(forward.A, forward.predicted)
        maps[precision] = (L - L.mean((1, 2), keepdim=True)).flatten(1)
        losses[precision] = np.array([row["loss"] for row in read_log(out / "log.csv")])
    for precision, least in (("bf16", 0.9), ("fp16", 0.99)):
        assert chosen[precision] == chosen["fp32"]
        assert float(torch.cosine_similarity(maps["fp32"], maps[precision]).min()) > least
        assert np.abs(losses[precision] - losses["fp32"]).mean() < 0.03


def choosing(engine: Engine, aside: list[str]) -> Choose:
    """Choose by the Average Drops of some images, as the command does."""

    def choose(candidates: Mapping[str, Method]) -> Choice | None:
        random = make_method("random", engine.backbone, seed=0)
        methods = {name: Measured(one, DROPS) for name, one in candidates.items()}
        drops = measure_drops(engine, methods | {"random": Measured(random, SHOWN)}, aside)
        assert drops is not None
        of_random = drops.pop("random")
        selection = select(drops, of_random, START, 0)
        assert selection is not None
        return Choice(selection.chosen, selection.to_json())

    return choose


def test_a_run_goes_on_in_another_precision_and_the_file_says_the_last(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "pictures", 8)
    recipe = replace(AUTO, epochs=2, batch_size=4, min_steps=0)
    settings = TrainingSettings("img", recipe, workers=1)
    assert train(engine_of("fp16"), paths, tmp_path, settings, stop=lambda: True) is None
    assert (
        train(engine_of("bf16"), paths, tmp_path, settings, resume=True, stop=lambda: True) is None
    )
    file = train(engine_of("fp32"), paths, tmp_path, settings, resume=True)
    assert file is not None
    described = load_attention(file).settings
    assert described is not None
    assert described.training["precision"] == "fp32"
    assert [row["step"] for row in read_log(tmp_path / "log.csv")] == [0, 1, 2, 3]


def test_gradients_too_large_for_float16_stop_the_run_and_float32_goes_on(tmp_path: Path) -> None:
    """The loss itself is a number: only what comes back to the mask is none."""
    paths = write_pictures(tmp_path / "pictures", 4)
    recipe = replace(AUTO, epochs=2, batch_size=4, min_steps=0, lambda_drop=1e9)
    settings = TrainingSettings("img", recipe, workers=1)
    with pytest.raises(LcamError, match="the loss is not finite at step 0") as caught:
        train(engine_of("fp16", sure=30), paths, tmp_path, settings)
    assert caught.value.hint.endswith("continue from it with --resume --precision fp32")
    assert (tmp_path / FAILED_BATCH).exists()
    assert (tmp_path / CHECKPOINT).exists()
    assert train(engine_of("fp32", sure=30), paths, tmp_path, settings, resume=True) is not None


@pytest.mark.parametrize("precision", HALF)
def test_a_step_in_parts_is_the_same_step(precision: str, x: Tensor) -> None:
    draws = torch.rand(6, 2, generator=torch.Generator().manual_seed(0))
    losses = []
    for limit in (32, 2):
        engine = engine_of(precision, sure=30)
        engine.lower_limit(2 * limit)
        rows = SharedRows(classifier_rows(engine, x), torch.ones(6), AUTO.kernel)
        losses.append(float(backward(engine, rows, x, AUTO, "img", None, draws)["loss"]))
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
