"""``lcam train`` keeps images aside, and leaves the better of its start and what it learned."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from lcam_cli import (
    BackboneOptions,
    LcamError,
    Progress,
    Reporter,
    TrainOptions,
    TrainResult,
    load_attention,
    load_backbone,
    train_attention,
)
from lcam_cli.demo.pictures import write_pictures as write_demo_pictures
from tests.cli import job
from tests.cli.job import Lcam
from tests.runs import tiny_training
from tests.tiny import write_pictures

lcam = job.lcam

TINY = replace(tiny_training.OPTIONS, epochs=1, out=Path("run"))
COMMAND = ["train", "photos", "--epochs", "1", *tiny_training.WORDS, "--out", "run"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_training.begin(tmp_path, monkeypatch, 12)


class Said:
    """A reporter's callbacks, and what they were given.

    That the images are few and look alike to the tiny network is left out.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings: list[str] = []
        self.counts: list[Progress] = []
        self.reporter = Reporter(self.counts.append, self._warn, self.lines.append)

    def _warn(self, line: str) -> None:
        if "too few to learn from" not in line and "is of class" not in line:
            self.warnings.append(line)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 images of the demo, whose classifier knows them; 12 of them are kept aside."""
    folder = tmp_path_factory.mktemp("demo")
    write_demo_pictures(folder, per_class=6, seed=1)
    return folder


def train_demo(demo: Path, said: Said, **changes: object) -> TrainResult:
    options = replace(TINY, epochs=2, backbone=BackboneOptions("lcam-demo"), **changes)
    return train_attention(demo, options, reporter=said.reporter)


def test_what_got_better_is_kept_and_the_run_says_that_it_paid(demo: Path) -> None:
    """From random rows there is nowhere to go but up."""
    said = Said()
    result = train_demo(demo, said, init="random")
    selection = result.selection
    assert selection is not None
    assert (selection.kept_aside, selection.pictures) == (12, 12)
    assert (selection.chosen, selection.paid) == ("learned", True)
    heading, learned, start, random, verdict = said.lines[-5:]
    assert heading.startswith("on 12 images kept aside, Average Drop")
    assert [line.split("  ")[1].strip() for line in (learned, start, random)] == [
        "learned",
        "where it started",
        "random",
    ]
    assert verdict.startswith("training paid: over all ν, Average Drop is ")
    assert "lower than where it started" in verdict
    assert any("48 images (12 more are kept aside), 2 epochs" in line for line in said.lines)
    last = {count.what: (count.done, count.total, count.unit) for count in said.counts}
    assert last == {"train": (96, 96, "images"), "choose": (36, 36, "maps")}
    # The file, the run's folder and the result say the same.
    settings = load_attention(result.attention).settings
    assert settings is not None
    assert settings.training["pictures"] == 48
    assert settings.training["keep_aside"] == 0.2
    assert settings.training["selection"] == selection.to_json()
    assert json.loads(Path("run/selection.json").read_text()) == selection.to_json()


def test_what_got_worse_is_not_kept(demo: Path) -> None:
    """The size of the map alone is pressed down; the file then holds the start, CAM's rows."""
    said = Said()
    result = train_demo(demo, said, lambda_av=500.0)
    assert result.selection is not None
    assert (result.selection.chosen, result.selection.paid) == ("start", False)
    assert said.lines[-1].startswith("training did not pay: ")
    assert "higher than where it started, so the start is kept" in said.lines[-1]
    linear = load_backbone("lcam-demo").linear_head()
    assert linear is not None
    ratio = load_file(result.attention)["weight"] / linear.weight.detach()
    torch.testing.assert_close(ratio, torch.full_like(ratio, float(ratio.median())))


def test_the_pictures_kept_aside_are_never_trained_on() -> None:
    """With others in their place every step's loss stays what it was, and the scores change."""
    first = train_attention("photos", TINY)
    for place in _aside(12):
        write_pictures(Path("others"), place + 1, seed=99)
        Path(f"others/{place:03}.jpg").replace(f"photos/{place:03}.jpg")
    second = train_attention("photos", replace(TINY, out=Path("second")))
    assert first.selection is not None
    assert second.selection is not None
    assert first.selection.candidates != second.selection.candidates
    assert _losses("run") == _losses("second")


def _aside(pictures: int, seed: int = 0) -> list[int]:
    from lcam_cli.training.kept_aside import choose_aside

    return choose_aside(pictures, 0.2, seed)


def _losses(out: str) -> list[str]:
    lines = Path(out, "log.csv").read_text().splitlines()
    return [line.rpartition(",")[0] for line in lines]  # but for images/s


@pytest.mark.parametrize("pictures", [1, 2, 9])
def test_of_few_pictures_none_is_kept_aside_and_that_is_said(pictures: int) -> None:
    said = Said()
    for path in sorted(Path("photos").iterdir())[pictures:]:
        path.unlink()
    result = train_attention("photos", TINY, reporter=said.reporter)
    assert result.selection is None
    (warning,) = said.warnings
    assert "too few to keep some aside" in warning
    assert "so lcam cannot tell whether training helps" in warning
    assert said.counts[-1].total == pictures
    assert not Path("run/selection.json").exists()
    settings = load_attention(result.attention).settings
    assert settings is not None
    assert settings.training["pictures"] == pictures
    assert "selection" not in settings.training


@pytest.mark.parametrize("asked", [{"keep_aside": 0}, {"recipe": "paper"}, {"mode": "bla"}])
def test_nothing_is_kept_aside_where_nobody_asks(asked: dict[str, object]) -> None:
    said = Said()
    result = train_attention("photos", replace(TINY, **asked), reporter=said.reporter)
    assert result.selection is None
    assert said.counts[-1].total == 12
    assert not said.warnings
    assert not Path("run/selection.json").exists()


@pytest.mark.parametrize(
    ("asked", "aside"),
    [
        ({"keep_aside": 0.5}, 6),
        ({"recipe": "paper", "keep_aside": 0.25}, 4),
        ({"recipe": "reference", "keep_aside": 0.25}, 4),
        ({"mode": "bla", "keep_aside": 0.25}, 4),
        ({"mode": "l2x-f", "keep_aside": 0.25}, 4),
        ({"mode": "fm"}, 4),
        ({"mode": "amg"}, 4),
        ({"mode": "tame"}, 4),
    ],
)
def test_every_mode_and_recipe_can(asked: dict[str, object], aside: int) -> None:
    result = train_attention("photos", replace(TINY, **asked))  # type: ignore[arg-type]
    assert result.selection is not None
    assert result.selection.kept_aside == aside
    assert set(result.selection.candidates) == {"start", "learned"}


@pytest.mark.parametrize("share", [-0.1, 0.6, True, "a fifth"])
def test_the_share_is_checked(share: object) -> None:
    with pytest.raises(LcamError, match=r"TrainOptions\.keep_aside"):
        TrainOptions(keep_aside=share)  # type: ignore[arg-type]


def test_a_trained_head_is_another_classifier(lcam: Lcam) -> None:
    with pytest.raises(LcamError, match="--keep-aside cannot be used with --train-head"):
        TrainOptions(mode="bla", train_head=True, keep_aside=0.2)
    ended = lcam(*COMMAND, "--mode", "bla", "--train-head", "--keep-aside", "0.2")
    assert ended.code == 2
    assert "--keep-aside cannot be used with --train-head" in ended.err


def test_the_command_says_it_and_quiet_silences_it(lcam: Lcam) -> None:
    ended = lcam(*COMMAND)
    assert ended.code == 0
    assert ended.out == "run\n"
    lines = ended.err.splitlines()
    assert lines.pop().startswith("next: lcam explain ")
    assert lines[-5].startswith("on 4 images kept aside, Average Drop")
    assert lines[-4].startswith("  learned  ")
    assert lines[-1].startswith("training ")
    assert lines[-1].endswith("; 4 images are few for this comparison")
    assert any(line.startswith("choose: 12/12 maps") for line in lines)
    with safe_open("run/attention.safetensors", framework="pt") as file:
        training = json.loads(file.metadata()["training"])
    assert training["selection"]["kept_aside"] == 4
    quiet = lcam(*COMMAND, "--quiet", "--overwrite")
    assert (quiet.code, quiet.out, quiet.err) == (0, "run\n", "")


def test_a_new_run_leaves_no_selection_of_an_earlier_one(lcam: Lcam) -> None:
    assert lcam(*COMMAND).code == 0
    assert Path("run/selection.json").exists()
    assert lcam(*COMMAND, "--overwrite", "--keep-aside", "0").code == 0
    assert not Path("run/selection.json").exists()


def _stopped_at(choosing: bool, batches: int) -> tuple[Callable[[], bool], Reporter]:
    """A ``stop`` that says so after some batches of training, or some methods of the choice."""
    done = 0
    chooses = False

    def on_progress(progress: Progress) -> None:
        nonlocal chooses
        chooses = progress.what == "choose"

    def stop() -> bool:
        nonlocal done
        done += chooses == choosing
        return done == batches

    return stop, Reporter(on_progress, on_warning=lambda _line: None)


@pytest.mark.parametrize("mode", ["img", "tame"])
def test_a_stopped_run_leaves_the_same_bytes(mode: str) -> None:
    options = replace(TINY, mode=mode, epochs=2)  # type: ignore[arg-type]
    whole = train_attention("photos", replace(options, out=Path("whole")))
    for resume, (choosing, batches) in enumerate([(False, 1), (False, 2), (True, 1), (True, 2)]):
        stop, reporter = _stopped_at(choosing, batches)
        run = replace(options, resume=resume > 0)
        stopped = train_attention("photos", run, reporter=reporter, stop=stop)
        assert stopped.interrupted
        assert stopped.selection is None
        assert not stopped.attention.exists()
        assert Path("run/checkpoint.pt").exists()
    ended = train_attention("photos", replace(options, resume=True))
    assert ended.selection == whole.selection
    assert ended.attention.read_bytes() == whole.attention.read_bytes()
    files = [Path(out, "selection.json").read_bytes() for out in ("run", "whole")]
    assert files[0] == files[1]
    assert not Path("run/checkpoint.pt").exists()


def test_with_another_share_it_is_another_run() -> None:
    assert train_attention("photos", TINY, stop=lambda: True).interrupted
    with pytest.raises(LcamError, match="other settings or images"):
        train_attention("photos", replace(TINY, resume=True, keep_aside=0.4))
    assert not train_attention("photos", replace(TINY, resume=True)).interrupted


def test_pictures_kept_aside_that_cannot_be_read_are_left_out_and_counted() -> None:
    aside = _aside(12)
    for place in aside[:2]:
        Path(f"photos/{place:03}.jpg").write_text("no picture")
    said = Said()
    result = train_attention("photos", TINY, reporter=said.reporter)
    assert result.skipped == 2
    assert [line.partition(":")[0] for line in said.warnings] == [
        f"skipped photos/{place:03}.jpg" for place in aside[:2]
    ]
    assert result.selection is not None
    assert (result.selection.kept_aside, result.selection.pictures) == (4, 2)


def test_where_none_of_them_can_be_read_what_was_learned_is_kept_and_nothing_is_claimed() -> None:
    for place in _aside(12):
        Path(f"photos/{place:03}.jpg").write_text("no picture")
    said = Said()
    result = train_attention("photos", TINY, reporter=said.reporter)
    assert result.skipped == 4
    assert result.selection is None
    assert said.warnings[-1] == (
        "none of the 4 images kept aside could be scored: lcam cannot tell whether training helped"
    )
    assert json.loads(Path("run/selection.json").read_text()) == {"kept_aside": 4, "pictures": 0}
