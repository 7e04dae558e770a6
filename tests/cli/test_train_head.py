"""``lcam train --train-head`` and what explains the classifier it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import pytest
import torch

from lcam_cli.methods.attention_file import load_attention
from tests.cli import job
from tests.cli.job import Lcam
from tests.tiny import write_pictures

OWN = "from tests.tiny import tiny_network as net\n"
NET = ("--backbone", "own.py:net")
TRAIN = ("train", "photos", *NET, "--image-size", "32", "--epochs", "2", "--batch-size", "4")
RUN = Path("runs/own.py-net-bla-head")
FILE = RUN / "attention.safetensors"

lcam = job.lcam


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    job.begin(tmp_path, monkeypatch, OWN, 6)
    return tmp_path


@pytest.fixture
def run(folder: Path, lcam: Lcam) -> Path:
    done = lcam(*TRAIN, "--mode", "bla", "--train-head", "--lr", "0.5")
    assert done.code == 0, done.err
    assert done.out.strip() == str(RUN)
    return folder


def test_the_run_is_explained_and_scored_by_its_own_classifier(run: Path, lcam: Lcam) -> None:
    done = lcam("explain", "photos", *NET, "--map-dtype", "float32")
    assert done.code == 0, done.err
    own = load_attention(FILE).settings
    assert own is not None
    with h5py.File("maps.h5") as file:
        assert file.attrs["method"] == "bla-head"
        assert file.attrs["weights"] == own.identity.weights
        confidence = file["confidence"][:]
    frozen = lcam("explain", "photos", "--method", "bla-head", *NET, "--weights", "none")
    assert frozen.code == 2, "the frozen classifier is another one"
    scored = lcam("evaluate", *NET, "--nu", "100", "--format", "json")
    assert scored.code == 0, scored.err
    assert json.loads(scored.out)["weights"] == own.identity.weights
    # Grad-CAM explains it too, with the same scores; on the frozen classifier they are others.
    words = ("explain", "photos", "--method", "gradcam", "--image-size", "32")
    assert lcam(*words[:4], *NET, "--weights", FILE, "--out", "g.h5").code == 0
    assert lcam(*words, *NET, "--out", "f.h5").code == 0
    with h5py.File("g.h5") as ours, h5py.File("f.h5") as frozen_maps:
        assert ours["confidence"][:].tolist() == confidence.tolist()
        assert frozen_maps["confidence"][:].tolist() != confidence.tolist()


def test_rows_are_compared_on_the_one_classifier_or_not_at_all(run: Path, lcam: Lcam) -> None:
    words = ("compare", "photos", *NET, "--nu", "50", "--format", "json")
    done = lcam(*words, "--attention", RUN, "--methods", "gradcam")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert [row["method"] for row in result["rows"]] == [
        *("bla-head", "bla-head-hard", "gradcam", "random"),
    ]
    assert result["weights"].startswith("sha256:")
    assert lcam(*TRAIN, "--mode", "bla").code == 0
    both = lcam(*words, "--attention", RUN, "--attention", "runs/own.py-net-bla")
    assert both.code == 2
    assert "a trained head makes another classifier" in both.err
    unasked = json.loads(lcam(*words, "--image-size", "32").out)
    assert "bla-head" not in [row["method"] for row in unasked["rows"]]


def test_true_labels_are_those_of_the_folders(folder: Path, lcam: Lcam) -> None:
    for name in ("1", "3"):
        write_pictures(folder / "sorted" / name, 4, seed=int(name))
    words = ("train", "sorted", *TRAIN[2:], "--mode", "bla-t", "--train-head")
    done = lcam(*words, "--labels", "folders", "--epochs", "20", "--lr", "5")
    assert done.code == 0, done.err
    file = load_attention(Path(done.out.strip()) / "attention.safetensors")
    assert file.settings is not None
    assert file.settings.training["mode"] == "bla-t-head"
    assert file.settings.training["labels"].startswith("sha256:")
    gained = file.attention.tensors()["head_bias"] - _own_bias()
    assert gained[[1, 3]].min() > 0 > gained[[0, 2]].max()
    wrong = lcam("train", "photos", *words[2:], "--labels", "folders", "--overwrite")
    assert wrong.code == 2
    assert "the folders' names: there is no class named 'photos'" in wrong.err
    (folder / "some.txt").write_text("000.jpg 2\n003.jpg 0\n")
    some = lcam("train", "photos", *words[2:], "--labels", "some.txt", "--overwrite")
    assert some.code == 0, some.err
    assert "4 images have no label and are skipped" in some.err
    assert "on 2 images" in some.err


def _own_bias() -> torch.Tensor:
    from tests.tiny import tiny_network

    return tiny_network()[6].bias.detach()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mode", "tame", "--train-head"], "--train-head cannot be used with --mode tame"),
        (["--mode", "bla-t"], "add --train-head"),
        (["--mode", "bla", "--labels", "folders"], "--labels can only be used with --train-head"),
        (["--mode", "bla", "--train-head", "--layer", "2"], "head of own.py:net cannot be trained"),
    ],
)
def test_what_does_not_go_together(folder: Path, lcam: Lcam, words: list[str], said: str) -> None:
    done = lcam(*TRAIN, *words)
    assert done.code == 2
    assert said in done.err
    assert "internal error" not in done.err
