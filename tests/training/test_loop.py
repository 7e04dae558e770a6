"""The loop: what it writes, that it learns, and that stopping changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.methods.attention_file import load_attention
from lcam_cli.networks.network import Network
from lcam_cli.networks.weights.checkpoint import read_checkpoint
from lcam_cli.training import step
from lcam_cli.training.checkpoint import CHECKPOINT
from lcam_cli.training.log import read_log
from lcam_cli.training.loop import FAILED_BATCH, TrainingSettings, train
from lcam_cli.training.recipes import Recipe, recipe_for
from lcam_cli.training.rows import FreeRows, SharedRows
from lcam_cli.training.settings import fingerprint
from lcam_cli.training.step import Mode, backward
from tests.conftest import ROOT
from tests.tiny import SMALL, tiny_backbone, tiny_network, write_pictures


@pytest.fixture
def engine() -> Engine:
    return Engine(tiny_backbone(), device="cpu")


def _settings(name: str, **changes: object) -> TrainingSettings:
    recipe = replace(recipe_for(name, "resnet50"), epochs=3, batch_size=4, min_steps=0)
    return TrainingSettings("img", replace(recipe, **changes), seed=5)


def _with_dropout() -> Engine:
    """As VGG-16 has it, which recipe ``reference`` leaves active."""
    module = tiny_network()
    module.insert(6, nn.Dropout(0.5))
    network = Network(module.eval(), "tiny", "none", preprocess=SMALL)
    return Engine(Backbone(network, "3"), device="cpu")


@pytest.mark.parametrize("mode", ["img", "fm"])
@pytest.mark.parametrize("name", ["auto", "paper", "reference", "reference with dropout"])
def test_a_stopped_run_ends_with_the_same_weights(
    name: str, mode: Mode, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after its first batch, after each epoch's last, and in between."""
    monkeypatch.setattr(Recipe, "fitted", lambda recipe, _pictures: recipe)  # no more epochs
    paths = write_pictures(tmp_path / "pictures", 10)
    Path(paths[4]).write_text("no picture")
    settings = replace(_settings(name.split(maxsplit=1)[0]), mode=mode)
    if "dropout" in name:
        settings = replace(settings, recipe=replace(settings.recipe, dropout=True))
        engine = _with_dropout()
    for run in ("whole", "stopped"):
        (tmp_path / run).mkdir()
    whole = train(engine, paths, tmp_path / "whole", settings)
    assert whole is not None
    ended, batches = None, 0
    for run, at in enumerate((1, 3, 4, 6, 8, 99)):  # of 3 epochs with 3 batches each
        assert ended is None

        def stop(at: int = at) -> bool:
            nonlocal batches
            batches += 1
            return batches == at

        torch.manual_seed(run)  # whatever chance there was before the run must not matter
        fresh = _with_dropout() if "dropout" in name else Engine(tiny_backbone(), device="cpu")
        ended = train(fresh, paths, tmp_path / "stopped", settings, resume=run > 0, stop=stop)
    assert ended is not None
    assert batches == 9
    first, second = load_attention(whole).attention, load_attention(ended).attention
    assert torch.equal(first.W, second.W)
    assert torch.equal(first.b, second.b)
    logs = [read_log(tmp_path / run / "log.csv") for run in ("whole", "stopped")]
    assert [r["step"] for r in logs[0]] == list(range(9))
    for log in logs:
        for row in log:
            del row["images_per_second"]
    assert logs[0] == logs[1]
    assert (tmp_path / "whole" / "losses.png").stat().st_size > 1000
    assert sorted(p.name for p in (tmp_path / "whole").iterdir()) == [
        "attention.safetensors",
        "log.csv",
        "losses.png",
    ]


def test_training_lowers_the_loss(engine: Engine, tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "pictures", 12)
    # Of all of the map: what a part loses is chance, too.
    settings = _settings("auto", epochs=12, shown="all", lr=0.01)
    train(engine, paths, tmp_path, settings)
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
    with pytest.raises(LcamError, match="none of the 5 images"):
        train(engine, paths, tmp_path, _settings("paper"))


@pytest.mark.parametrize("broken", ["loss", "weights"])
def test_a_step_that_leaves_no_numbers_names_itself_and_keeps_the_last_good_checkpoint(
    broken: str, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_pictures(tmp_path / "pictures", 8)
    settings, steps = _settings("paper"), 0

    def failing(engine: Engine, rows: FreeRows, *rest: Any) -> dict[str, torch.Tensor]:
        nonlocal steps
        steps += 1
        terms = backward(engine, rows, *rest)
        if steps == 4:  # the second of the second epoch
            if broken == "loss":
                terms["av"] = torch.tensor(float("nan"))
            else:
                rows.W.grad = torch.full_like(rows.W, float("inf"))
        return terms

    with monkeypatch.context() as patch:
        patch.setattr(step, "backward", failing)
        with pytest.raises(LcamError, match="the loss is not finite at step 3") as caught:
            train(engine, paths, tmp_path, settings)
    assert "--lr" in caught.value.hint
    assert ("av=nan" in caught.value.what) == (broken == "loss")
    order = np.random.default_rng([5, 1]).permutation(8)[4:]
    listed = (tmp_path / FAILED_BATCH).read_text().splitlines()
    assert sorted(listed) == sorted(paths[i] for i in order)
    assert listed[0] in caught.value.what
    # The checkpoint is that of the first epoch's end, and the run can go on from it.
    (tmp_path / "whole").mkdir()
    whole = train(engine, paths, tmp_path / "whole", settings)
    ended = train(engine, paths, tmp_path, settings, resume=True)
    assert whole is not None
    assert ended is not None
    assert torch.equal(load_attention(whole).attention.W, load_attention(ended).attention.W)


def test_without_numbers_from_the_first_step_the_checkpoint_is_the_start(
    engine: Engine, tmp_path: Path
) -> None:
    paths = write_pictures(tmp_path / "pictures", 4)
    with pytest.raises(LcamError, match="the loss is not finite at step 0"):
        train(engine, paths, tmp_path, _settings("paper", lambda_tv=float("inf")))
    assert read_checkpoint(tmp_path / CHECKPOINT)["step"] == 0


def test_another_precision_may_go_on(engine: Engine, tmp_path: Path) -> None:
    """What the hint says after fp16 gave no numbers."""
    paths = write_pictures(tmp_path / "pictures", 8)
    half = Engine(tiny_backbone(), device="cpu", precision="bf16")
    assert train(half, paths, tmp_path, _settings("paper"), stop=lambda: True) is None
    assert train(engine, paths, tmp_path, _settings("paper"), resume=True) is not None


def test_checkpoints_come_every_two_minutes_and_are_never_half_written(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever the file's name shows up on the way, it is whole; so a kill finds one as well."""
    paths = write_pictures(tmp_path / "pictures", 20)
    clock, steps, real = 0.0, [], time.monotonic

    def stop() -> bool:
        nonlocal clock
        clock += 50.0
        assert not (tmp_path / ".checkpoint.pt.lcam.tmp").exists()
        steps.append(read_checkpoint(tmp_path / CHECKPOINT)["step"])
        return False

    monkeypatch.setattr(time, "monotonic", lambda: real() + clock)
    train(engine, paths, tmp_path, _settings("paper", epochs=2), stop=stop)
    # Five steps an epoch; after three of them 150 s have gone by.
    assert steps == [0, 0, 0, 3, 3, 5, 5, 5, 8, 8]


_FULL = """
import resource, signal, sys
from pathlib import Path
from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.training.loop import train
from tests.tiny import tiny_backbone
from tests.training.test_loop import _settings
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
out, limit, paths = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    train(Engine(tiny_backbone(), device="cpu"), paths, out, _settings("auto"), resume=True)
except LcamError as error:
    print(error.what, error.hint)
"""


def test_a_run_that_0_1_0_began_goes_on(engine: Engine, tmp_path: Path) -> None:
    """Its checkpoints know neither the network's output nor a last step taken off it."""
    paths = write_pictures(tmp_path / "pictures", 8)
    assert train(engine, paths, tmp_path, _settings("auto"), stop=lambda: True) is None
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    identity = json.loads(state["fingerprint"])[1]
    assert set(identity) == {"name", "weights", "layer", "weights_file", "grid", "activation"}
    assert train(engine, paths, tmp_path, _settings("auto"), resume=True) is not None


def test_a_recipe_of_0_1_0_has_the_record_that_it_had_there(engine: Engine) -> None:
    training = json.loads(fingerprint(engine, ["a.jpg"], _settings("paper")))[0]
    assert training.pop("cycles") == 1
    assert set(training) == {"mode", "seed", "pictures"} | {
        field.name for field in fields(Recipe)
    } - {"keep_aside", "kernel", "lambda_drop", "lr_delta", "min_steps", "shown"}


def test_a_full_disk_keeps_the_last_checkpoint(engine: Engine, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk's end."""
    paths = write_pictures(tmp_path / "pictures", 8)
    out = tmp_path / "out"
    out.mkdir()
    assert train(engine, paths, out, _settings("auto"), stop=lambda: True) is None
    before = (out / CHECKPOINT).read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(out), str(len(before) - 100), *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cannot write to" in done.stdout
    assert "--resume" in done.stdout
    # The tiny network finds one class in all of these images, which is warned of.
    assert [line for line in done.stderr.splitlines() if "is of class '0'" not in line] == []
    assert (out / CHECKPOINT).read_bytes() == before
    assert train(engine, paths, out, _settings("auto"), resume=True) is not None


def test_a_checkpoint_of_another_run_is_refused(engine: Engine, tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "pictures", 8)
    assert train(engine, paths, tmp_path, _settings("auto"), stop=lambda: True) is None
    with pytest.raises(LcamError, match="other settings or images"):
        train(engine, paths, tmp_path, _settings("auto", lr=0.1), resume=True)
    with pytest.raises(LcamError, match="other settings or images"):
        train(engine, paths[1:], tmp_path, _settings("auto"), resume=True)
    (tmp_path / CHECKPOINT).write_bytes(b"damaged")
    with pytest.raises(LcamError, match="cannot read"):
        train(engine, paths, tmp_path, _settings("auto"), resume=True)
    (tmp_path / CHECKPOINT).unlink()
    with pytest.raises(LcamError, match="nothing to resume"):
        train(engine, paths, tmp_path, _settings("auto"), resume=True)


def test_few_pictures_get_more_epochs_and_the_learning_rate_falls_to_zero_once() -> None:
    recipe = replace(recipe_for("auto", "resnet50"), epochs=6, batch_size=32, min_steps=120)
    assert [recipe.fitted(n).epochs for n in (2, 320, 640, 1600)] == [120, 12, 6, 6]
    at = ((0, 0.0), (2, 0.0), (3, 0.0), (5, 1.0))  # of 6 epochs: 0, 1/3, 1/2, 1 are done
    factors = [recipe.lr_factor(epoch, share) for epoch, share in at]
    assert factors == pytest.approx([1.0, 0.75, 0.5, 0.0])
    decaying = replace(recipe, decay=0.5)
    assert [decaying.lr_factor(2, share) for share in (0.0, 0.9)] == [0.25, 0.25]


def test_shared_rows_by_hand() -> None:
    """W[r] = (c·W0[r] + w_shared + Δ[r]) / s, and where it started stays known."""
    rows = SharedRows(torch.tensor([[1.0, -1.0], [3.0, 1.0]]), torch.tensor([1.0, 2.0]))
    start = rows.fold().W
    with torch.no_grad():
        rows.c.fill_(3.0)
        rows.w_shared += 2.0
        rows.delta[1, 0] = 5.0
    expected = 3 * start + torch.tensor([[2.0, 1.0], [7.0, 1.0]])
    torch.testing.assert_close(rows.fold().W, expected)
    torch.testing.assert_close(rows.rows(torch.tensor([1, 0]))[0], expected[[1, 0]])
    assert torch.equal(rows.fold_start().W, start)
