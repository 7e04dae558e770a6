"""The registries of modes and of loss terms: that they agree, and that a line is enough."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import pytest
import torch

from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.methods.attention_file import FILE_NAME
from lcam_cli.methods.learned import LCAM_MODES, OF_TENSORS
from lcam_cli.training.log import COLUMNS, read_log
from lcam_cli.training.loop import TrainingSettings, train
from lcam_cli.training.losses import TERMS, MaskedBatch, Term, weighted_loss
from lcam_cli.training.modes import MODES, TrainingMode, find_mode
from lcam_cli.training.recipes import OWN_RECIPES, Mode, Recipe
from lcam_cli.training.start import StartingData
from lcam_cli.training.trained_head import TrainedHeadModule, start
from tests.tiny import tiny_backbone, write_pictures


def test_every_mode_has_its_lines() -> None:
    assert set(MODES) == set(get_args(Mode)) == set(OF_TENSORS)
    assert set(OWN_RECIPES) == set(MODES) - set(LCAM_MODES)


def test_a_mode_that_there_is_not_is_named() -> None:
    with pytest.raises(LcamError, match="unknown mode 'tam'") as unknown:
        find_mode("tam")
    assert "did you mean tame" in unknown.value.hint


def test_a_mode_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start_new(data: StartingData) -> TrainedHeadModule:
        return start("bla-head", data.engine.backbone, data.features(), data.settings.seed)

    monkeypatch.setitem(MODES, "new", TrainingMode(start_new, "none"))
    paths = write_pictures(tmp_path / "pictures", 6)
    recipe = replace(OWN_RECIPES["bla-head"], epochs=8, batch_size=3, lr_W=1.0)
    engine = Engine(tiny_backbone(), device="cpu")
    settings = TrainingSettings("new", recipe, workers=1)  # type: ignore[arg-type]
    assert train(engine, paths, tmp_path, settings) == tmp_path / FILE_NAME
    losses = [row["loss"] for row in read_log(tmp_path / "log.csv")]
    assert sum(losses[-2:]) < sum(losses[:2])


def test_a_term_is_a_line_and_its_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Weighted(Recipe):
        lambda_rise: float = 2.0

    def rise(masked: MaskedBatch, _recipe: Recipe) -> torch.Tensor:
        """max(0, p − f)/f, which needs the images as they are."""
        before = masked.forward.confidence(masked.y)
        after = masked.logits.softmax(1).gather(1, masked.y[:, None])[:, 0]
        return ((after - before).clamp_min(0) / before).mean()

    assert COLUMNS[3:-2] == tuple(TERMS)
    monkeypatch.setitem(TERMS, "rise", Term("relative rise", rise))
    engine = Engine(tiny_backbone(), device="cpu")
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    forward = engine.forward(x)
    logits = 50 * torch.eye(4)[forward.predicted]  # a score of 1
    masked = MaskedBatch(forward, forward.predicted, torch.ones(3, 8, 8), logits)
    loss = weighted_loss(masked, Weighted("own", 1, 4, 0.1, lambda_tv=0, lambda_av=0, lambda_ce=0))
    f = forward.confidence(forward.predicted)
    assert float(loss.total) == pytest.approx(2 * float(((1 - f) / f).mean()))
