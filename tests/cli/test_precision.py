"""What the commands say and record of precision."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import pytest

from lcam_cli.engine import engine as engine_module
from lcam_cli.runs import half_precision
from tests.cli import job
from tests.cli.job import Lcam

lcam = job.lcam

NETWORK = ("--backbone", "own.py:net", "--weights", "none", "--image-size", "32")
ENGINE = ("--device", "cpu", "--batch-size", "4", "--workers", "1")
EXPLAIN = ("explain", "photos", "--method", "gradcam", *NETWORK, *ENGINE)
HINT = "--precision bf16 would be about 1.7 times as fast"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: six images; and a processor that computes bf16."""
    job.begin(tmp_path, monkeypatch, "from tests.tiny import tiny_network as net\n", 6)
    monkeypatch.setattr(half_precision, "cpu_computes_bf16", lambda: True)
    monkeypatch.setattr(half_precision, "speed_up", lambda _backbone: 1.7)
    return tmp_path


def test_each_command_says_once_what_bf16_would_give_in_a_long_run(
    lcam: Lcam, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = ("train", "photos", *NETWORK, *ENGINE[:2], "--workers", "1", "--epochs", "1")
    commands = {
        EXPLAIN: "where two classes are close",
        ("evaluate", "maps.h5", "--backbone", "own.py:net", *ENGINE): "AD and IC",
        ("compare", "photos", "--methods", "gradcam", *NETWORK, *ENGINE): "AD and IC",
        (*train, "--batch-size", "2", "--out", "run"): "what is learned",
    }
    for command in commands:
        assert HINT not in lcam(*command).err, "a short run"
    monkeypatch.setattr(half_precision, "MANY_PASSES", 6)
    for command, costs in commands.items():
        again = () if command[0] == "evaluate" else ("--overwrite",)
        done = lcam(*command, *again)
        assert done.err.count(HINT) == 1, done.err
        assert costs in next(line for line in done.err.splitlines() if HINT in line)
        assert HINT not in lcam(*command, *again, "--quiet").err
    done = lcam(*EXPLAIN, "--overwrite", "--precision", "fp32")
    assert HINT not in done.err, "who names a precision knows"


def test_emulated_bf16_is_said_once(lcam: Lcam, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_precision, "cpu_computes_bf16", lambda: False)
    done = lcam(*EXPLAIN, "--precision", "bf16")
    assert done.code == 0
    assert done.err.count("bf16 is emulated") == 1


@pytest.mark.parametrize("out", ["maps.h5", "maps"])
def test_maps_say_what_they_were_computed_in_and_are_not_mixed(lcam: Lcam, out: str) -> None:
    assert lcam(*EXPLAIN, "--out", out, "--precision", "bf16").code == 0
    if out == "maps":
        assert json.loads(Path("maps/maps/info.json").read_text())["precision"] == "bf16"
    else:
        with h5py.File(out) as file:
            assert file.attrs["precision"] == "bf16"
    refused = lcam(*EXPLAIN, "--out", out, "--resume")
    assert refused.code == 2
    assert "precision is 'bf16', not 'fp32'" in refused.err
    assert lcam(*EXPLAIN, "--out", out, "--resume", "--precision", "bf16").code == 0


def test_maps_of_older_versions_go_on_in_any_precision(lcam: Lcam) -> None:
    assert lcam(*EXPLAIN, "--out", "maps.h5").code == 0
    with h5py.File("maps.h5", "r+") as file:
        del file.attrs["precision"]
        file.attrs["complete"] = False
    assert lcam(*EXPLAIN, "--out", "maps.h5", "--resume", "--precision", "bf16").code == 0
    with h5py.File("maps.h5") as file:
        assert file.attrs.get("precision", "") == "", "it is of both"


def test_fp16_is_refused_on_a_cpu(lcam: Lcam) -> None:
    done = lcam(*EXPLAIN, "--precision", "fp16")
    assert done.code == 2
    assert "fp16 does not run on the CPU" in done.err
    assert engine_module.choose_hardware("cpu").precision == "fp32"
