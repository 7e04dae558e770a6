"""Random numbers of a step's images: their own, whatever batch they are in."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lcam_cli.scale.rank_info import RankInfo
from lcam_cli.training.batches import TrainingBatches
from lcam_cli.training.recipes import recipe_for
from lcam_cli.training.settings import TrainingSettings
from lcam_cli.training.shown import DRAWS
from tests.tiny import SMALL


def _batches(
    size: int = 8, seed: int = 5, pictures: int = 20, rank: RankInfo | None = None
) -> TrainingBatches:
    recipe = replace(recipe_for("auto", "tiny"), batch_size=size)
    paths = [f"{i}.jpg" for i in range(pictures)]
    settings = TrainingSettings("img", recipe, seed=seed)
    return TrainingBatches(paths, SMALL, settings, rank or RankInfo(0, 1))


def test_draws_are_a_pictures_own_in_any_batch_part_and_rank() -> None:
    expected = _batches().draws(3, range(20))
    assert expected.shape == (20, DRAWS)
    for batches in (
        _batches(size=32),
        _batches(rank=RankInfo(1, 2)),
        _batches(size=3, rank=RankInfo(2, 3)),
    ):
        assert torch.equal(batches.draws(3, [7, 2, 19]), expected[[7, 2, 19]])
        assert torch.equal(batches.draws(3, [2]), expected[[2]])
    assert _batches().draws(3, []).shape == (0, DRAWS)


def test_draws_differ_between_pictures_epochs_and_seeds() -> None:
    drawn = [_batches(seed=s).draws(e, range(20)) for s, e in ((5, 3), (5, 4), (6, 3), (3, 5))]
    assert len(torch.cat(drawn).flatten().unique()) == 4 * 20 * DRAWS


def test_draws_are_uniform_and_nothing_else_draws_or_is_drawn() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    drawn = _batches(pictures=4000).draws(0, range(4000))
    assert torch.equal(torch.get_rng_state(), before)
    assert float(drawn.min()) >= 0
    assert float(drawn.max()) < 1
    assert drawn.dtype == torch.float32
    assert drawn.mean(0).tolist() == pytest.approx([0.5] * DRAWS, abs=0.02)
    for low in (0, 0.25, 0.5, 0.75):
        share = ((drawn >= low) & (drawn < low + 0.25)).double().mean(0)
        assert share.tolist() == pytest.approx([0.25] * DRAWS, abs=0.03)
    assert abs(float(torch.corrcoef(drawn.T)[0, 1])) < 0.05
