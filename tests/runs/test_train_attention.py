"""``train_attention`` does what ``lcam train`` does, told by callbacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lcam_cli import (
    BackboneOptions,
    LcamError,
    Progress,
    Reporter,
    TrainOptions,
    load_backbone,
    train_attention,
)
from tests.cli import job
from tests.cli.job import Lcam
from tests.runs import tiny_training
from tests.runs.test_explain_folder import after

lcam = job.lcam

OPTIONS = replace(tiny_training.OPTIONS, epochs=2, out=Path("runs/called"))
COMMAND = ["--epochs", "2", *tiny_training.WORDS]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_training.begin(tmp_path, monkeypatch, 10)


def test_the_attention_is_that_of_the_command(lcam: Lcam) -> None:
    assert lcam("train", "photos", *COMMAND, "--out", "runs/typed").code == 0
    counts: list[Progress] = []
    lines: list[str] = []
    reporter = Reporter(counts.append, on_info=lines.append)
    result = train_attention("photos", OPTIONS, reporter=reporter)
    assert (result.out, result.skipped, result.interrupted) == (Path("runs/called"), 0, False)
    typed = Path("runs/typed/attention.safetensors")
    assert result.attention.read_bytes() == typed.read_bytes()
    trained = [count for count in counts if count.what == "train"][-1]
    assert (trained.done, trained.total) == (12, 12)
    assert "training L-CAM-Img on 6 images (4 more are kept aside), 2 epochs, recipe auto" in lines
    with pytest.raises(LcamError, match="holds a finished run"):
        train_attention("photos", OPTIONS)


def test_a_stopped_run_goes_on_where_it_was() -> None:
    whole = train_attention("photos", replace(OPTIONS, out=Path("runs/whole")))
    stopped = train_attention("photos", OPTIONS, stop=after(4))
    assert stopped.interrupted
    assert not stopped.attention.exists()
    warnings: list[str] = []
    Path("photos/999.jpg").write_bytes(b"no picture")
    with pytest.raises(LcamError):  # with another image it is another run
        train_attention("photos", replace(OPTIONS, resume=True))
    Path("photos/999.jpg").unlink()
    reporter = Reporter(on_warning=warnings.append)
    result = train_attention("photos", replace(OPTIONS, resume=True), reporter=reporter)
    assert result.attention.read_bytes() == whole.attention.read_bytes()
    assert not any("999.jpg" in line for line in warnings)


def test_pictures_that_cannot_be_read_are_told_and_counted() -> None:
    Path("photos/broken.jpg").write_bytes(b"no picture")
    warnings: list[str] = []
    result = train_attention("photos", OPTIONS, reporter=Reporter(on_warning=warnings.append))
    assert result.skipped == 1
    begun = [line.partition(":")[0] for line in warnings]
    assert [line for line in begun if "broken.jpg" in line] == ["skipped photos/broken.jpg"]
    assert [line for line in begun if "too few" in line] == ["11 images are too few to learn from"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_head": True}, "--train-head cannot be used with --mode img"),
        ({"mode": "bla-t"}, "--mode bla-t trains the classifier's head"),
        ({"labels": "folders"}, "--labels can only be used with --train-head"),
    ],
)
def test_what_does_not_go_together_is_refused_at_once(
    changes: dict[str, object], words: str
) -> None:
    with pytest.raises(LcamError, match=words):
        TrainOptions(**changes)  # type: ignore[arg-type]


def test_the_callers_random_state_is_left_as_it_was() -> None:
    torch.manual_seed(123)
    before = torch.get_rng_state()
    train_attention("photos", replace(OPTIONS, backbone=BackboneOptions("lcam-demo"), epochs=1))
    assert torch.equal(torch.get_rng_state(), before)
    load_backbone("lcam-demo")
    assert torch.equal(torch.get_rng_state(), before)
