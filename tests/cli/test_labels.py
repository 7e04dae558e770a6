"""Labels through the real commands: names that repeat, own classes, and another order of them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import h5py
import pytest
from PIL import Image

from tests.cli import job
from tests.cli.job import Lcam
from tests.tiny import write_pictures

OWN = """
import torch
from torch import nn


def net():
    '''Class c is an image whose brightness lies in the c-th of twelve parts.'''
    convolution, head = nn.Conv2d(3, 4, 4, 4), nn.Linear(4, 12)
    centres = (torch.arange(12.0) + 0.5) / 12
    with torch.no_grad():
        convolution.weight.fill_(1 / 48)
        convolution.bias.zero_()
        # -(x - c)² without the x² that all classes share, from each of four channels.
        head.weight.copy_(2 * centres[:, None].expand(-1, 4) * 100)
        head.bias.copy_(-4 * centres**2 * 100)
    return nn.Sequential(
        convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head
    ).eval()
"""
NETWORK = (
    *("--backbone", "own.py:net", "--weights", "none", "--image-size", "32"),
    *("--mean", "0,0,0", "--std", "1,1,1"),
)
NAMES = [f"grey {c}" for c in range(12)]

lcam = job.lcam


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve folders as their classes are called, in each two images called as in all others."""
    from PIL import Image

    job.begin(tmp_path, monkeypatch, OWN, 0)
    for c, name in enumerate(NAMES):
        for i in range(2):
            path = tmp_path / "sorted" / name / f"image_000{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            grey = round(255 * (c + 0.5) / 12)
            Image.new("RGB", (40, 40), (grey, grey, grey)).save(path)
    (tmp_path / "classes.txt").write_text("\n".join(NAMES))
    return tmp_path


def explain(lcam: Lcam, *words: str) -> None:
    done = lcam("explain", "sorted", *NETWORK, "--method", "random", "--out", "maps.h5", *words)
    assert done.code == 0, done.err


def file_of(numbers: list[int]) -> str:
    """A file of labels where class c has the number numbers[c]."""
    Path("labels.csv").write_text(
        "filename,label\n"
        + "".join(
            f"{n}/image_000{i}.png,{numbers[c]}\n" for c, n in enumerate(NAMES) for i in (0, 1)
        )
    )
    return "labels.csv"


def accuracy(out: str) -> tuple[float, int]:
    found = json.loads(out)["accuracy"]
    return found["top1"], found["labelled"]


def test_the_maps_file_knows_the_names_of_ones_own_classes(folder: Path, lcam: Lcam) -> None:
    explain(lcam, "--classes", "classes.txt")
    evaluate = partial(
        lcam, "evaluate", "maps.h5", "--backbone", "own.py:net", "--nu", "50", "--format", "json"
    )
    done = evaluate("--labels", "folders")
    assert done.code == 0, done.err
    assert accuracy(done.out) == (100, 24)
    assert "order" not in done.err
    # The folder of one class by itself, which is the root that rows do not speak of.
    words = ("explain", "sorted/grey 5", *NETWORK, "--classes", "classes.txt")
    assert lcam(*words, "--method", "random", "--out", "one.h5").code == 0
    one = lcam(
        *("evaluate", "one.h5", "--backbone", "own.py:net", "--nu", "50"),
        *("--labels", "folders", "--format", "json"),
    )
    assert accuracy(one.out) == (100, 2)
    with h5py.File("maps.h5", "r+") as file:
        names = file["classes"][:]
        del file["classes"]
        file["classes"] = names[:3]
    wrong = evaluate("--labels", "folders")
    assert wrong.code == 2
    assert "maps.h5 lists 3 classes, but own.py:net has 12" in wrong.err
    # A file of an older version knows no names: they have to be given.
    with h5py.File("maps.h5", "r+") as file:
        del file["classes"]
    old = evaluate("--labels", "folders")
    assert old.code == 2
    assert "there is no class named 'grey 0'" in old.err
    assert accuracy(evaluate("--labels", "folders", "--classes", "classes.txt").out)[0] == 100


def test_names_that_repeat_count_for_their_own_picture(folder: Path, lcam: Lcam) -> None:
    explain(lcam)
    evaluate = partial(
        lcam, "evaluate", "maps.h5", "--backbone", "own.py:net", "--nu", "50", "--format", "json"
    )
    done = evaluate("--labels", file_of(list(range(12))))
    assert (done.code, accuracy(done.out)) == (0, (100, 24)), done.err
    lines = Path("labels.csv").read_text().splitlines()
    Path("labels.csv").write_text("\n".join([*lines[:-2], "elsewhere.png,3"]))
    some = evaluate("--labels", "labels.csv")
    assert accuracy(some.out) == (100, 22)
    assert "1 of 23 lines of labels.csv match no image" in some.err
    assert "2 of 24 images have no label in labels.csv" in some.err
    Path("labels.csv").write_text("image_0000.png 0\nimage_0000.png 1\n")
    both = evaluate("--labels", "labels.csv")
    assert both.code == 2
    assert "line 1 `image_0000.png 0`, line 2 `image_0000.png 1`" in both.err


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ([0, *range(11)], "the class after"),
        ([1, *range(2, 12), 11], "the class before (do the labels count from 1?)"),
        ([0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9], "sorted as text (0, 1, 10, 2, …)"),
        ([3, 7, 1, 10, 0, 11, 4, 9, 2, 6, 8, 5], "another class, always the same one"),
        (list(range(12)), ""),
    ],
)
def test_another_order_of_the_classes_is_told_once(
    folder: Path, lcam: Lcam, numbers: list[int], told: str
) -> None:
    explain(lcam)
    labels = file_of(numbers)
    evaluate = ("evaluate", "maps.h5", "--backbone", "own.py:net", "--nu", "50")
    diagnose = ("diagnose", "sorted", *NETWORK, "--method", "random")
    compare = ("compare", "sorted", *NETWORK, "--methods", "random", "--nu", "50")
    for words in (evaluate, diagnose, compare):
        done = lcam(*words, "--labels", labels)
        assert done.code == 0, done.err
        assert done.err.count("in another order") == (1 if told else 0), done.err
        assert told in done.err
        assert ("pass --classes FILE with the classes" in done.err) == bool(told)


def test_training_and_diagnosing_take_the_same_names(folder: Path, lcam: Lcam) -> None:
    """Relative to the folder named, as in a result, or as typed."""
    write_pictures(folder / "sorted" / "more", 1)
    for path in (folder / "sorted").glob("grey*/*.png"):  # nothing is learned of one colour
        with Image.open(path) as picture:
            picture.putpixel((20, 20), (0, 0, 0))
            picture.save(path)
    labels = file_of(list(range(12)))
    done = lcam(
        *("diagnose", "sorted", *NETWORK, "--method", "random", "--labels", labels),
        *("--format", "json"),
    )
    assert json.loads(done.out)["images"] == 24
    assert "1 images have no label in labels.csv" in done.err
    trained = lcam(
        *("train", "sorted", *NETWORK, "--mode", "bla", "--train-head", "--labels", labels),
        *("--epochs", "1", "--out", "run"),
    )
    assert trained.code == 0, trained.err
    assert "1 images have no label" in trained.err
    assert "training BLA and the head on 24 images" in trained.err


def test_compare_says_how_often_the_classifier_is_right(folder: Path, lcam: Lcam) -> None:
    compare = partial(
        lcam, "compare", "sorted", *NETWORK, "--methods", "gradcam", "--classes", "classes.txt",
        "--nu", "50", "--format", "json",
    )  # fmt: skip
    assert "accuracy" not in json.loads(compare().out)
    # What an earlier run finished is taken over, though it was asked for no labels.
    done = compare("--labels", "folders", "--resume")
    assert "reused from an earlier run: gradcam, random" in done.err
    assert accuracy(done.out) == (100, 24)
    # The prediction counts, whatever class is explained.
    assert accuracy(compare("--labels", "folders", "--class", "grey 3").out) == (100, 24)
    # Every label two classes off: never the first, and among the five but at the end of the twelve.
    moved = [(c + 2) % 12 for c in range(12)]
    found = json.loads(compare("--labels", file_of(moved)).out)["accuracy"]
    assert found == {"top1": 0, "top5": round(100 * 10 / 12, 4), "labelled": 24}
    # Only the images of the rows count, and only those with a label.
    Path("sorted/grey 0/image_0000.png").write_text("no picture")
    lines = Path(file_of(list(range(12)))).read_text().splitlines()
    Path("labels.csv").write_text("\n".join(lines[:-1]))
    some = compare("--labels", "labels.csv")
    assert (some.code, accuracy(some.out)) == (3, (100, 22))
    assert "1 of 24 images have no label in labels.csv" in some.err
    table = lcam(
        *("compare", "sorted", *NETWORK, "--methods", "gradcam", "--nu", "50"),
        *("--labels", "labels.csv", "--format", "markdown"),
    )
    assert "top-1 100.00%, top-5 100.00% on 22 labelled" in table.out


def test_compare_refuses_labels_before_it_explains(folder: Path, lcam: Lcam) -> None:
    words = ("compare", "sorted", *NETWORK, "--methods", "gradcam", "--labels")
    Path("wrong.csv").write_text("grey 0/image_0000.png grey\n")
    wrong = lcam(*words, "wrong.csv")
    assert wrong.code == 2
    assert "wrong.csv: " in wrong.err
    assert lcam(*words, "missing.csv").code == 2
    assert not Path("runs").exists()
