"""Pictures and classifiers that little or nothing can be learned from: ``lcam train`` says so."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from lcam_cli.engine.engine import Forward
from lcam_cli.methods.attention_file import load_attention
from lcam_cli.training import learnable
from tests.cli import job
from tests.cli.job import Ended, Lcam
from tests.tiny import tiny_network, write_pictures

lcam = job.lcam

OWN = "from tests.tiny import tiny_network as net\nfrom tests.training.odd_networks import *\n"
RUN = Path("runs/x")
TOO_FEW = "too few to learn from"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    job.begin(tmp_path, monkeypatch, OWN, 6)
    return tmp_path


def trained(lcam: Lcam, name: str, *words: str, data: str = "photos") -> Ended:
    network = ("--backbone", f"own.py:{name}", "--weights", "none", "--image-size", "32")
    few = ("--epochs", "2", "--workers", "1", "--batch-size", "4")
    return lcam("train", data, *network, *few, "--out", RUN, *words)


def warnings_of(done: Ended) -> list[str]:
    """What was warned of; each is a line. That these tests' images are few is left out."""
    assert done.code == 0, done.err
    said = [line for line in done.err.splitlines() if line.startswith("warning: ")]
    of_few = (TOO_FEW, "too few to keep some aside")
    return [one.removeprefix("warning: ") for one in said if not any(few in one for few in of_few)]


def refused(done: Ended) -> str:
    """The one line of an error, and its hint."""
    assert done.code == 2
    assert not (RUN / "attention.safetensors").exists()
    what, _, hint = done.err.partition("error: ")[2].partition("\n")
    assert len(hint.splitlines()) == 1
    return f"{what}; {hint.strip()}"


def weights() -> torch.Tensor:
    return load_attention(RUN / "attention.safetensors").attention.tensors()["weight"]


# --- Images ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (1, f"1 image is {TOO_FEW}"),
        (2, f"2 images are {TOO_FEW}"),
        (4, f"4 images are {TOO_FEW}"),
        (5, ""),
    ],
)
def test_few_pictures_are_trained_on_and_warned_of(
    count: int, words: str, lcam: Lcam, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert learnable.ENOUGH_PICTURES == 30
    monkeypatch.setattr(learnable, "ENOUGH_PICTURES", 5)
    done = trained(lcam, "net", "--max-images", str(count))
    assert done.code == 0, done.err
    assert done.err.count(TOO_FEW) == bool(words)
    if words:
        assert f"warning: {words}: " in done.err
        assert "use at least 5, better hundreds" in done.err
    assert weights().isfinite().all()
    assert weights().std() > 0


@pytest.mark.parametrize("mode", ["fm", "bla", "l2x-f", "amg", "tame"])
def test_one_picture_is_enough_for_every_mode(mode: str, lcam: Lcam) -> None:
    done = trained(lcam, "net", "--max-images", "1", "--mode", mode)
    assert warnings_of(done) == []
    tensors = load_attention(RUN / "attention.safetensors").attention.tensors()
    assert all(t.isfinite().all() for t in tensors.values() if isinstance(t, torch.Tensor))


def test_pictures_that_are_all_the_same(folder: Path, lcam: Lcam) -> None:
    (folder / "same").mkdir()
    for i in range(5):
        shutil.copy(folder / "photos" / "000.jpg", folder / "same" / f"{i}.jpg")
    (line,) = warnings_of(trained(lcam, "net", data="same"))
    assert re.fullmatch(r"each of the \d images looks the same: they teach as little as .*", line)


def test_pictures_smaller_than_the_crop_are_enlarged(folder: Path, lcam: Lcam) -> None:
    (folder / "small").mkdir()
    picture = Image.open(folder / "photos" / "000.jpg")
    for width, height in ((1, 1), (2, 3), (3, 90), (90, 3), (31, 31)):
        picture.resize((width, height)).save(folder / "small" / f"{width}x{height}.png")
    for fit in ("crop", "squash"):
        done = trained(lcam, "net", "--fit", fit, "--overwrite", data="small")
        assert done.code == 0, done.err
        assert "skipped" not in done.err
        assert weights().isfinite().all()


def test_a_batch_may_be_larger_than_all_pictures(lcam: Lcam) -> None:
    W = []
    for size in ("6", "640"):
        done = trained(lcam, "net", "--batch-size", size, "--overwrite")
        assert done.code == 0, done.err
        W.append(weights())
    torch.testing.assert_close(W[0], W[1])


def test_pictures_of_one_class(lcam: Lcam) -> None:
    said = r"each of the \d images is of class '0' for the classifier: maps of other classes are"
    for mode, words in (("img", said), ("tame", said), ("amg", "")):
        found = warnings_of(trained(lcam, "of_one_class", "--mode", mode, "--overwrite"))
        assert len(found) == bool(words)
        assert all(re.match(words, line) for line in found)


def test_labels_of_one_class(folder: Path, lcam: Lcam) -> None:
    (folder / "labels.txt").write_text("".join(f"{i:03}.jpg 2\n" for i in range(6)))
    labels = ("--mode", "bla", "--train-head", "--labels", "labels.txt")
    assert warnings_of(trained(lcam, "net", *labels)) == [
        "every image is of class '2': the head learns to predict that class for every image; use "
        "images of all classes"
    ]
    (folder / "labels.txt").write_text("".join(f"{i:03}.jpg {i % 2}\n" for i in range(6)))
    assert warnings_of(trained(lcam, "net", *labels, "--overwrite")) == []


def test_of_many_pictures_some_are_looked_at(
    folder: Path, lcam: Lcam, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of many images of one class is not read twice to find it out."""
    monkeypatch.setattr("lcam_cli.training.start._PICTURES", 8)
    write_pictures(folder / "photos", 20)
    (line,) = warnings_of(trained(lcam, "of_one_class"))
    assert re.match(r"each of 8 images \(of \d\d\) is of class '0' for the classifier", line)


# --- Classifiers ------------------------------------------------------------------------------


def test_of_a_single_class_the_softmax_is_refused_and_the_sigmoid_learned(lcam: Lcam) -> None:
    for words in ((), ("--activation", "softmax")):
        said = refused(trained(lcam, "one_logit", *words))
        assert "returns a single logit, whose softmax score is always 1" in said
        assert "pass --activation sigmoid" in said
        network = ("--backbone", "own.py:one_logit", "--weights", "none", "--image-size", "32")
        explained = lcam("explain", "photos", "--method", "gradcam", *network, *words)
        assert explained.code == 2
        assert said == explained.err.removeprefix("error: ").strip().replace("\n", "; ")
    assert warnings_of(trained(lcam, "one_logit", "--activation", "sigmoid")) == []
    assert weights().shape[0] == 1
    assert weights().std() > 0


@pytest.mark.parametrize("mode", ["img", "fm", "bla", "amg", "tame"])
def test_a_classifier_that_is_always_sure(mode: str, lcam: Lcam) -> None:
    said = [w for w in warnings_of(trained(lcam, "always_sure", "--mode", mode)) if "masking" in w]
    assert len(said) == 1
    begins = r"masking does not change the classifier's score \(1; \d images checked\)"
    assert re.match(f"{begins}: nothing can be learned from it", said[0])


def test_a_classifier_of_zeros_and_ones(lcam: Lcam) -> None:
    said = [w for w in warnings_of(trained(lcam, "nothing_between")) if "scores" in w]
    assert len(said) == 1
    assert "scores are all 0 or 1, masked or not" in said[0]


def test_a_usual_classifier_is_not_warned_of(
    lcam: Lcam, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first batch, of 4, leaves no doubt: no more is looked at."""
    looked_at = []
    add = learnable.Prospects.add

    def noted(self: learnable.Prospects, forward: Forward) -> None:
        looked_at.append(len(forward.x))
        add(self, forward)

    monkeypatch.setattr(learnable.Prospects, "add", noted)
    (folder / "own.py").write_text("from tests.cli.test_train_bad_input import two_classes as net")
    assert warnings_of(trained(lcam, "net")) == []
    assert looked_at == [4]


def two_classes() -> torch.nn.Module:
    """The tiny network, whose predictions differ from image to image."""
    network = tiny_network()
    with torch.no_grad():
        network[6].weight.mul_(30)  # type: ignore[index, operator, union-attr]
        network[6].bias.zero_()  # type: ignore[index, operator, union-attr]
    return network


# --- Starts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["img", "fm", "tame"])
def test_a_start_without_rows(mode: str, lcam: Lcam) -> None:
    done = trained(lcam, "ignoring_head", "--mode", mode, *_layers(mode))
    assert "the classifier's rows at layer features.3, which training starts" in refused(done)


def test_a_start_of_random_rows_needs_none_but_learns_nothing(lcam: Lcam) -> None:
    for recipe in ("auto", "paper"):
        words = ("--init", "random", "--recipe", recipe, "--overwrite")
        found = warnings_of(trained(lcam, "ignoring_head", *words))
        assert any("masking does not change the classifier's score" in line for line in found)


def test_a_start_of_equal_rows(lcam: Lcam) -> None:
    sigmoid = ("--activation", "sigmoid", "--layer", "3")
    said = refused(trained(lcam, "equal_rows", *sigmoid))
    assert "rows at layer 3 are the same number everywhere: recipe auto cannot start" in said
    assert (
        warnings_of(trained(lcam, "equal_rows", *sigmoid, "--recipe", "paper", "--overwrite")) == []
    )


def test_a_classifier_that_looks_at_no_layer(lcam: Lcam) -> None:
    for words in ((), ("--layer", "features.3")):
        said = refused(trained(lcam, "PictureAlone", *words))
        assert "no layer's features change the logits of a random image" in said


@pytest.mark.parametrize("name", ["flat_features", "dead_features"])
@pytest.mark.parametrize("words", [(), ("--recipe", "paper"), ("--mode", "bla")])
def test_features_without_places(name: str, words: tuple[str, ...], lcam: Lcam) -> None:
    said = refused(trained(lcam, name, *words))
    assert "the features of layer features.3 are the same everywhere in each of the" in said
    assert "--layer NAME" in said


@pytest.mark.parametrize("mode", ["img", "bla", "tame"])
def test_features_that_cannot_be_computed_with(mode: str, lcam: Lcam) -> None:
    for name, size in (("huge_features", "e+2"), ("tiny_features", "e-2")):
        said = refused(trained(lcam, name, "--mode", mode, "--overwrite", *_layers(mode, "4")))
        assert "training cannot start: the feature maps of layer features.4 reach" in said
        assert size in said


def _layers(mode: str, last: str = "3") -> tuple[str, ...]:
    return ("--layer", "features.1", "--layer", f"features.{last}") if mode == "tame" else ()
