"""The loop: what it writes, that it learns, and that stopping changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.methods.attention_file import load_attention
from lcam_cli.training.log import read_log
from lcam_cli.training.loop import CHECKPOINT, TrainingSettings, train
from lcam_cli.training.recipes import recipe_for
from lcam_cli.training.rows import SharedRows
from tests.tiny import tiny_backbone, write_pictures


@pytest.fixture
def engine() -> Engine:
    return Engine(tiny_backbone(), device="cpu")


def _settings(name: str, **changes: object) -> TrainingSettings:
    recipe = replace(recipe_for(name, "resnet50"), epochs=3, batch_size=4)
    return TrainingSettings("img", replace(recipe, **changes), seed=5)


@pytest.mark.parametrize("name", ["auto", "paper", "reference"])
def test_a_stopped_run_ends_with_the_same_weights(
    name: str, engine: Engine, tmp_path: Path
) -> None:
    paths = write_pictures(tmp_path / "pictures", 10)
    (tmp_path / "whole").mkdir()
    (tmp_path / "stopped").mkdir()
    settings = _settings(name)
    whole = train(engine, paths, tmp_path / "whole", settings)
    assert whole is not None

    calls = 0

    def after_two_batches() -> bool:
        nonlocal calls
        calls += 1
        return calls % 2 == 0

    ended, runs = None, 0
    while ended is None:
        runs += 1
        ended = train(
            Engine(tiny_backbone(), device="cpu"),
            paths,
            tmp_path / "stopped",
            settings,
            resume=runs > 1,
            stop=after_two_batches,
        )
        assert runs < 10
    assert runs == 5  # 3 epochs of 3 batches, stopped after every second
    first, second = load_attention(whole).attention, load_attention(ended).attention
    assert torch.equal(first.W, second.W)
    assert torch.equal(first.b, second.b)
    logs = [read_log(tmp_path / run / "log.csv") for run in ("whole", "stopped")]
    assert [r["step"] for r in logs[0]] == list(range(9))
    assert [(r["step"], r["loss"]) for r in logs[0]] == [(r["step"], r["loss"]) for r in logs[1]]
    assert (tmp_path / "whole" / "losses.png").stat().st_size > 1000
    assert not (tmp_path / "whole" / CHECKPOINT).exists()


def test_training_lowers_the_loss(engine: Engine, tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "pictures", 12)
    train(engine, paths, tmp_path, _settings("auto", epochs=12))
    losses = [row["loss"] for row in read_log(tmp_path / "log.csv")]
    assert sum(losses[-3:]) < sum(losses[:3])


def test_unreadable_pictures_are_told_once_and_left_out(engine: Engine, tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "pictures", 5)
    Path(paths[2]).write_text("no picture")
    told: list[Skipped] = []
    assert train(engine, paths, tmp_path, _settings("auto"), skip=told.append) is not None
    assert [s.path for s in told] == [paths[2]]
    for path in paths:
        Path(path).write_text("no picture")
    with pytest.raises(LcamError, match="none of the 5 pictures"):
        train(engine, paths, tmp_path, _settings("paper"))


def test_a_loss_that_is_no_number_names_step_and_pictures(engine: Engine, tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "pictures", 4)
    with pytest.raises(LcamError, match="the loss is no number at step") as caught:
        train(engine, paths, tmp_path, _settings("paper", lambda_tv=float("inf")))
    assert ".jpg" in caught.value.what


def test_a_checkpoint_of_another_run_is_refused(engine: Engine, tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "pictures", 8)
    assert train(engine, paths, tmp_path, _settings("auto"), stop=lambda: True) is None
    with pytest.raises(LcamError, match="other settings or pictures"):
        train(engine, paths, tmp_path, _settings("auto", lr=0.1), resume=True)
    with pytest.raises(LcamError, match="other settings or pictures"):
        train(engine, paths[1:], tmp_path, _settings("auto"), resume=True)
    (tmp_path / CHECKPOINT).write_bytes(b"damaged")
    with pytest.raises(LcamError, match="cannot read"):
        train(engine, paths, tmp_path, _settings("auto"), resume=True)
    (tmp_path / CHECKPOINT).unlink()
    with pytest.raises(LcamError, match="nothing to resume"):
        train(engine, paths, tmp_path, _settings("auto"), resume=True)


def test_cycles_share_the_epochs_and_average_their_weights() -> None:
    recipe = replace(recipe_for("auto", "resnet50"), epochs=5, cycles=2)
    assert [recipe.cycle_of(e) for e in range(5)] == [0, 0, 0, 1, 1]
    assert [replace(recipe, epochs=1).cycle_epochs(0)] == [range(1)]
    assert [replace(recipe, cycles=3, epochs=6).fitted(n).cycles for n in (300, 1100, 1600)] == [
        1, 2, 3,
    ]  # fmt: skip
    rows = SharedRows(torch.tensor([[1.0, -1.0], [3.0, 1.0]]), torch.tensor([1.0, 2.0]))
    start = rows.fold().W
    with torch.no_grad():
        rows.w_shared += 2.0
    rows.end_cycle()
    assert torch.equal(rows.rows(torch.tensor([0, 1]))[0], start), "each cycle starts anew"
    rows.end_cycle()
    # One cycle added 2 to every scaled weight, the other nothing: on average 1, then over s.
    torch.testing.assert_close(rows.fold().W, start + torch.tensor([1.0, 0.5]))
