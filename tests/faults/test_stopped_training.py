"""Training that is killed or interrupted ends as if it had not been."""

from __future__ import annotations

import csv
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from lcam_cli.methods.attention_file import FILE_NAME, load_attention
from lcam_cli.training.checkpoint import CHECKPOINT
from lcam_cli.training.results import SELECTION
from tests.faults.counts import count
from tests.faults.many import Commands
from tests.faults.processes import NETWORK, OWN, start, wait_for
from tests.tiny import write_pictures

KILLS = count(2, 20)
TRAIN = ["train", "photos", *NETWORK, "--epochs", "30", "--batch-size", "4"]


@pytest.fixture
def folder(tmp_path: Path, lcam: Commands) -> Path:
    """A folder with images, and with an unbroken run in ``whole``."""
    (tmp_path / "own.py").write_text(OWN)
    write_pictures(tmp_path / "photos", 14)
    ended = lcam(tmp_path, [*TRAIN, "--out", "whole"])
    assert ended.code == 0, ended.err
    return tmp_path


def log_of(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        del row["images_per_second"]
    return rows


def assert_same(run: Path, whole: Path) -> None:
    ended, unbroken = load_attention(run / FILE_NAME), load_attention(whole / FILE_NAME)
    assert torch.equal(ended.attention.W, unbroken.attention.W)
    assert torch.equal(ended.attention.b, unbroken.attention.b)
    assert ended.settings == unbroken.settings
    assert log_of(run) == log_of(whole)
    names = [FILE_NAME, "log.csv", "losses.png", SELECTION]
    assert sorted(p.name for p in run.iterdir()) == names
    assert (run / SELECTION).read_bytes() == (whole / SELECTION).read_bytes()


@pytest.mark.slow
def test_killed_at_any_moment(folder: Path) -> None:
    rng = random.Random()
    kills = runs = at_work = 0
    while kills < KILLS:
        runs, done = runs + 1, False
        out = folder / f"run{runs}"
        while not done:
            process = start(folder, [*TRAIN, "--out", out.name, "--resume"])
            if kills < KILLS:
                if rng.random() < 0.9:  # most of the time before is the import of torch
                    wait_for(process, "training")
                time.sleep(rng.uniform(0, 0.5))
                if process.poll() is None:
                    process.kill()
                    kills += 1
                    at_work += (out / CHECKPOINT).exists()
            _, err = process.communicate()
            assert process.returncode in (0, -signal.SIGKILL) or "is finished" in err, err
            done = process.returncode != -signal.SIGKILL
            # Whatever is there under its final name is whole.
            if (out / CHECKPOINT).exists():
                torch.load(out / CHECKPOINT, weights_only=True)
            if (out / FILE_NAME).exists():
                load_attention(out / FILE_NAME)
        # What a kill may leave beside.
        temporary = (f".{name}.lcam.tmp" for name in (CHECKPOINT, FILE_NAME, SELECTION))
        for name in ("log.csv.tmp", *temporary):
            (out / name).unlink(missing_ok=True)
        assert_same(out, folder / "whole")
    print(f"{kills} kills ({at_work} with a checkpoint there) over {runs} runs: all as unbroken")


@pytest.mark.slow
def test_interrupts_finish_the_batch_save_and_say_how_to_resume(folder: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        process = start(folder, [*TRAIN, "--out", "run", "--resume"])
        wait_for(process, "training")
        time.sleep(0.2)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as Ctrl-C in a terminal does
        else:
            process.send_signal(number)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 130, err
        assert "--resume" in err
        assert "Traceback" not in err
        assert (folder / "run" / CHECKPOINT).exists()
    process = start(folder, [*TRAIN, "--out", "run", "--resume"])
    process.communicate()
    assert process.returncode == 0
    assert_same(folder / "run", folder / "whole")
