"""The modes beside L-CAM: that they resume bit for bit, learn, and work as commands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lcam_cli.__main__ import run as run_command
from lcam_cli.cli.app import lcam_app
from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.methods.attention_file import load_attention
from lcam_cli.training.log import read_log
from lcam_cli.training.loop import TrainingSettings, train
from lcam_cli.training.recipes import OWN_RECIPES, Mode, recipe_for
from tests.tiny import tiny_backbone, write_pictures


def _settings(mode: Mode, **changes: object) -> TrainingSettings:
    recipe = replace(recipe_for("auto", "tiny", mode), epochs=3, batch_size=4, min_steps=0)
    return TrainingSettings(mode, replace(recipe, **changes), seed=5)


@pytest.mark.parametrize("mode", OWN_RECIPES)
def test_a_stopped_run_ends_with_the_same_weights(mode: Mode, tmp_path: Path) -> None:
    """Stopped after its first batch, at an epoch's end, and in between."""
    paths = write_pictures(tmp_path / "pictures", 10)
    for run in ("whole", "stopped"):
        (tmp_path / run).mkdir()
    settings = _settings(mode)
    whole = train(Engine(tiny_backbone(), device="cpu"), paths, tmp_path / "whole", settings)
    assert whole is not None
    ended, batches = None, 0
    for run, at in enumerate((1, 3, 5, 99)):  # of 3 epochs with 3 batches each
        assert ended is None

        def stop(at: int = at) -> bool:
            nonlocal batches
            batches += 1
            return batches == at

        torch.manual_seed(run)  # whatever chance there was before the run must not matter
        fresh = Engine(tiny_backbone(), device="cpu")
        ended = train(fresh, paths, tmp_path / "stopped", settings, resume=run > 0, stop=stop)
    assert ended is not None
    first, second = (load_attention(file).attention.tensors() for file in (whole, ended))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    logs = [read_log(tmp_path / run / "log.csv") for run in ("whole", "stopped")]
    for log in logs:
        for row in log:
            del row["images_per_second"]
    assert logs[0] == logs[1]
    assert len(logs[0]) == 9


@pytest.mark.parametrize("mode", OWN_RECIPES)
def test_training_lowers_the_loss_and_leaves_the_classifier_alone(
    mode: Mode, tmp_path: Path
) -> None:
    paths = write_pictures(tmp_path / "pictures", 12)
    engine = Engine(tiny_backbone(), device="cpu")
    before = {k: v.clone() for k, v in engine.backbone.network.state_dict().items()}
    train(engine, paths, tmp_path, _settings(mode, epochs=25, lr=0.05))
    losses = [row["loss"] for row in read_log(tmp_path / "log.csv")]
    assert sum(losses[-9:]) < sum(losses[:9])
    assert all(torch.equal(before[k], v) for k, v in engine.backbone.network.state_dict().items())


def test_recipes_of_lcam_are_refused_for_other_modes() -> None:
    with pytest.raises(LcamError, match="mode bla has no such recipe"):
        recipe_for("paper", "vgg16", "bla")


NETWORK = ["--backbone", "own.py:net", "--weights", "none", "--image-size", "32"]
ROWS = {
    **{mode: [mode, f"{mode}-hard"] for mode in ("bla", "bla-head", "bla-t-head")},
    **{mode: [mode] for mode in ("l2x-f", "amg", "tame")},
}


@pytest.mark.slow
@pytest.mark.parametrize("mode", OWN_RECIPES)
def test_the_commands(
    mode: Mode,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Train, explain with the newest run, and compare."""
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text("from tests.tiny import tiny_network as net\n")
    write_pictures(tmp_path / "photos", 6)

    def lcam(*words: str) -> str:
        code = run_command(lcam_app(), [*words, "--device", "cpu", "--workers", "1"])
        told = capfd.readouterr()
        assert code == 0, told.err
        return told.out

    asked = ["--mode", mode.removesuffix("-head"), *["--train-head"] * mode.endswith("-head")]
    trained = ["train", "photos", *asked, *NETWORK, "--epochs", "2", "--batch-size", "4"]
    run = lcam(*trained).strip()
    assert run == str(Path("runs") / f"own.py-net-{mode}")
    name = ["--backbone", "own.py:net"]
    assert "6 maps" in lcam("explain", "photos", "--method", ROWS[mode][-1], *name)
    compared = ["compare", "photos", "--attention", run, "--methods", "gradcam", *name]
    rows = json.loads(lcam(*compared, "--format", "json"))["rows"]
    assert [row["method"] for row in rows] == [*ROWS[mode], "gradcam", "random"]
    chosen = ["compare", "photos", "--methods", ROWS[mode][-1], *name, "--no-floor"]
    rows = json.loads(lcam(*chosen, "--format", "json"))["rows"]
    assert [row["method"] for row in rows] == [ROWS[mode][-1]]
