"""Pictures whose scores are no numbers, maps that are flat, measures that are undefined.

Each through the real commands: what is told, what is counted, and that nothing else changes.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from tests.cli import job
from tests.cli.job import Ended, Lcam
from tests.tiny import write_pictures

OWN = """
import torch
from torch import nn
from tests.tiny import Standardised, tiny_network


def standardised():
    return Standardised().eval()


def changed(**bias):
    network = tiny_network()
    with torch.no_grad():
        for name, change in bias.items():
            change(getattr(network[-1], name))
    return network.eval()


def against():
    '''Every channel speaks against every class.'''
    return changed(weight=lambda w: w.copy_(-w.abs() - 0.1))


def nothing():
    return changed(weight=lambda w: w.fill_(torch.nan))


def never_2():
    '''Class 2 scores exactly 0, whatever the image.'''
    return changed(bias=lambda b: b[2].fill_(-1000))
"""
NO_NUMBERS = "the classifier's scores are not finite on this image"
SIZE = ("--weights", "none", "--image-size", "32", "--batch-size", "4")

command = job.lcam


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four images, and a folder with two of one colour among them."""
    job.begin(tmp_path, monkeypatch, OWN, 4)
    write_pictures(tmp_path / "mixed", 4)
    for name, grey in (("001b", 0), ("003b", 255)):
        Image.new("RGB", (50, 40), (grey, grey, grey)).save(tmp_path / "mixed" / f"{name}.png")
    return tmp_path


@pytest.fixture
def lcam(command: Lcam) -> Callable[..., Ended]:
    """A command with a network of own.py: ``lcam("explain", "against", "photos", …)``."""

    def call(what: str, network: str, *words: str | Path) -> Ended:
        own = ("--backbone", f"own.py:{network}", *(() if what == "evaluate" else SIZE))
        return command(what, *own, *words)

    return call


def rows_of(file: str) -> dict[str, np.ndarray[Any, Any]]:
    with h5py.File(file) as maps:
        found = {name: maps[name][:] for name in ("path", "saliency", "confidence")}
        found["skipped"] = np.array(maps["skipped/path"][:])
        return found


def test_explain_lists_pictures_without_scores_and_finishes_the_rest(
    folder: Path, lcam: Callable[..., Ended]
) -> None:
    explain = partial(lcam, "explain", "standardised")
    assert explain("photos", "--method", "gradcam", "--out", "good.h5").code == 0
    for batch in ("4", "1"):
        done = explain(
            *("mixed", "--method", "gradcam", "--out", "maps.h5"),
            *("--overwrite", "--batch-size", batch),
        )
        assert done.code == 3, done.err
        for name in ("001b.png", "003b.png"):
            assert done.err.count(f"skipped mixed/{name}: {NO_NUMBERS}\n") == 1
        assert "2 of the inputs are skipped (exit code 3)" in done.err
        good, mixed = rows_of("good.h5"), rows_of("maps.h5")
        assert list(mixed["path"]) == list(good["path"])
        np.testing.assert_allclose(mixed["saliency"], good["saliency"], atol=2e-3)
        assert list(mixed["skipped"]) == [b"001b.png", b"003b.png"]
    strict = explain("mixed", "--method", "gradcam", "--out", "s.h5", "--strict")
    assert strict.code == 2
    assert f"001b.png: {NO_NUMBERS}" in strict.err


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("explain", ("--method", "gradcam", "--out", "maps.h5")),
        ("compare", ("--methods", "gradcam,layercam")),
        ("diagnose", ("--method", "gradcam", "--labels", "labels.txt")),
        ("train", ("--epochs", "1", "--out", "run")),
    ],
)
def test_where_no_picture_has_scores_one_error_says_so(
    folder: Path, lcam: Callable[..., Ended], what: str, words: tuple[str, ...]
) -> None:
    (folder / "labels.txt").write_text("".join(f"00{i}.jpg {i}\n" for i in range(4)))
    done = lcam(what, "nothing", "photos", *words)
    assert done.code == 2, done.err
    wanted = "error: the classifier's scores are not finite on any of the 4 images\n"
    assert wanted + "check that its weights hold no NaN" in done.err
    assert "skipped" not in done.err
    assert "--precision" not in done.err, "it was fp32"
    if what == "explain":  # as often as it is asked
        again = lcam(what, "nothing", "photos", *words, "--resume")
        assert wanted in again.err


def test_evaluate_does_not_end_at_a_picture_without_scores(
    folder: Path, lcam: Callable[..., Ended]
) -> None:
    explain = ("explain", "standardised", "mixed", "--method", "gradcam", "--out", "maps.h5")
    assert lcam(*explain).code == 3
    evaluate = partial(lcam, "evaluate", "standardised", "maps.h5", "--nu", "50", "--format")
    # An image that is replaced after it was explained.
    before = json.loads(evaluate("json").out)
    Image.new("RGB", (50, 40), (9, 9, 9)).save(folder / "mixed" / "002.jpg")
    done = evaluate("json")
    assert done.code == 3, done.err
    assert done.err.count(f"002.jpg: {NO_NUMBERS}") == 1
    after = json.loads(done.out)
    assert (before["images"], after["images"], after["skipped"]) == (4, 3, 1)
    for path in (folder / "mixed").glob("*.jpg"):
        Image.new("RGB", (50, 40), (9, 9, 9)).save(path)
    none = evaluate("json")
    assert none.code == 2
    assert "the classifier's scores are not finite on any of the 4 images" in none.err


def test_evaluate_leaves_out_what_a_map_hides_wholly(
    folder: Path, lcam: Callable[..., Ended]
) -> None:
    """A map of zeros leaves black, on which this classifier has no score."""
    lcam("explain", "standardised", "photos", "--method", "gradcam", "--out", "maps.h5")
    with h5py.File("maps.h5", "r+") as file:
        file["saliency"][1] = 0
    done = lcam("evaluate", "standardised", "maps.h5", "--nu", "50", "--format", "json")
    assert done.code == 3, done.err
    assert (
        "001.jpg: the classifier's scores are not finite on the part of this image that its map "
        "keeps" in done.err
    )
    assert json.loads(done.out)["images"] == 3


def test_compare_scores_the_rest(folder: Path, lcam: Callable[..., Ended]) -> None:
    words = ("--methods", "gradcam,layercam", "--nu", "50", "--format", "json", "--out", "all.h5")
    good = json.loads(lcam("compare", "standardised", "photos", *words).out)
    done = lcam(
        *("compare", "standardised", "mixed", *words, "--overwrite"),
        *("--metrics", "deletion"),
    )
    assert done.code == 3, done.err
    for name in ("001b.png", "003b.png"):
        assert done.err.count(f"mixed/{name}: {NO_NUMBERS}") == 1
    found = json.loads(done.out)
    assert (found["images"], found["skipped"]) == (4, 2)
    for one, other in zip(found["rows"], good["rows"], strict=True):
        assert one["nu"]["50"]["ad"] == pytest.approx(other["nu"]["50"]["ad"], abs=1e-2)
    # Deletion ends with black, on which there is no score: no image has such a curve.
    assert found["undefined"] == {"ad": 0, "deletion": 4}
    assert found["rows"][0]["deletion"] == {"auc": None, "ci95": None}
    assert "deletion: 4 maps skipped because a score on the curve is not finite" in done.err
    with h5py.File("all.h5") as file:
        assert [p.decode() for p in file["gradcam/skipped/path"]] == ["001b.png", "003b.png"]


def test_diagnose_leaves_them_out(folder: Path, lcam: Callable[..., Ended]) -> None:
    (folder / "labels.txt").write_text(
        "".join(f"{name} 0\n" for name in sorted(p.name for p in (folder / "mixed").iterdir()))
    )
    words = ("--labels", "labels.txt", "--method", "gradcam", "--format", "json")
    good = json.loads(lcam("diagnose", "standardised", "photos", *words).out)
    done = lcam("diagnose", "standardised", "mixed", *words)
    assert done.code == 3, done.err
    assert done.err.count(NO_NUMBERS) == 2
    found = json.loads(done.out)
    assert (found["images"], found["skipped"]) == (4, 2)
    assert [p["path"] for p in found["pictures"]] == [p["path"] for p in good["pictures"]]


@pytest.mark.parametrize("out", ["maps.h5", "pngs"])
def test_explain_tells_of_flat_maps_once_with_the_reason(
    folder: Path, lcam: Callable[..., Ended], out: str
) -> None:
    words = ("explain", "against", "photos", "--out", out)
    done = lcam(*words, "--method", "gradcam", "--batch-size", "2")
    assert done.code == 0, done.err
    told = (
        "warning: flat maps (the same everywhere) explain nothing (gradcam 4 of 4): no feature "
        "of layer 3 raises the score of the class; --method cam keeps the sign\n"
    )
    assert done.err.count(told) == done.err.count("flat maps") == 1
    again = lcam(*words, "--method", "gradcam", "--resume")
    assert (again.code, again.err.count(told)) == (0, 1)
    assert "flat" not in lcam(*words, "--method", "cam", "--overwrite").err


def test_flat_maps_of_part_of_a_run_and_of_a_merged_file(
    folder: Path, lcam: Callable[..., Ended], command: Lcam
) -> None:
    words = ("explain", "against", "photos", "--method", "gradcam", "--batch-size", "1")
    for i in range(2):
        done = lcam(*words, "--out", "maps.h5", "--shard", f"{i}/2")
        assert "(gradcam 2 of 2)" in done.err
    assert command("merge", "maps.h5", "maps.0-of-2.h5", "maps.1-of-2.h5").code == 0
    with h5py.File("maps.h5") as file:
        assert file.attrs["flat_rows"] == 4
        assert np.isfinite(file["saliency"][:]).all()


def test_evaluate_and_compare_mark_flat_maps(folder: Path, lcam: Callable[..., Ended]) -> None:
    lcam("explain", "against", "photos", "--method", "gradcam", "--out", "maps.h5")
    evaluated = lcam("evaluate", "against", "maps.h5", "--nu", "50")
    assert evaluated.code == 0, evaluated.err
    assert (
        evaluated.err.count("(gradcam 4 of 4): no feature of layer 3 raises the score of the class")
        == 1
    )
    head = next(line for line in evaluated.out.splitlines() if "method" in line)
    assert "flat" in head
    compare = ("compare", "against", "photos", "--methods", "gradcam,layercam,cam", "--nu", "50")
    compared = lcam(*compare, "--format", "json")
    assert compared.code == 0, compared.err
    assert [(row["method"], row["flat_maps"]) for row in json.loads(compared.out)["rows"]] == [
        *(("gradcam", 4), ("layercam", 4), ("cam", 0), ("random", 0))
    ]
    assert compared.err.count("flat maps") == 1
    assert "(gradcam 4 of 4, layercam 4 of 4): gradcam: no feature of layer 3" in compared.err
    again = lcam(*compare, "--format", "json", "--resume")
    assert json.loads(again.out)["rows"][0]["flat_maps"] == 4
    assert "flat" not in lcam(*compare[:4], "cam", "--nu", "50").out


def test_diagnose_tells_of_flat_maps(folder: Path, lcam: Callable[..., Ended]) -> None:
    rng = np.random.default_rng(0)
    (folder / "labels.txt").write_text(
        "".join(f"00{i}.jpg {c}\n" for i, c in enumerate(rng.permutation(4)))
    )
    done = lcam(
        *("diagnose", "against", "photos", "--labels", "labels.txt"),
        *("--method", "gradcam", "--format", "json"),
    )
    assert done.code == 0, done.err
    found = json.loads(done.out)
    both = 2 * found["misclassified"]
    assert found["flat_maps"] == both > 0
    assert (
        f"(gradcam {both} of {both}): no feature of layer 3 raises the score of the class"
        in done.err
    )


def test_a_layer_that_does_not_reach_the_scores_is_named(
    folder: Path, lcam: Callable[..., Ended]
) -> None:
    (folder / "own.py").write_text(
        "from torch import nn\n"
        "class Two(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.seen, self.dead = nn.Conv2d(3, 4, 4, 4), nn.Conv2d(3, 4, 4, 4)\n"
        "        self.head = nn.Linear(4, 3)\n"
        "    def forward(self, x):\n"
        "        return self.head(self.seen(x).mean((2, 3)) + 0 * self.dead(x).mean((2, 3)))\n"
        "def two():\n"
        "    return Two().eval()\n"
    )
    done = lcam(
        *("explain", "two", "photos", "--method", "gradcam", "--layer", "dead", "--out", "m.h5")
    )
    if done.code == 0:  # else the layer is refused at the start, which is as good
        assert "(gradcam 4 of 4): the scores have no gradient at layer dead" in done.err
        assert done.err.count("flat maps") == 1


def test_a_score_of_0_has_no_average_drop(folder: Path, lcam: Callable[..., Ended]) -> None:
    explain = ("explain", "never_2", "photos", "--method", "gradcam", "--top-k", "4")
    assert lcam(*explain, "--out", "maps.h5").code == 0
    evaluate = partial(lcam, "evaluate", "never_2", "maps.h5", "--nu", "50", "--format")
    done = evaluate("json")
    assert done.code == 0
    # Of four classes an image one scores 0; the mean is over the three others.
    assert json.loads(done.out)["undefined"] == {"ad": 4, "ag": 0}
    assert done.err.count("AD: 4 maps of score 0 skipped (undefined)") == 1
    lcam(*explain[:-2], "--class", "2", "--out", "only.h5")
    only = partial(lcam, "evaluate", "never_2", "only.h5", "--nu", "50")
    found = json.loads(only("--format", "json").out)
    assert found["undefined"] == {"ad": 4, "ag": 0}
    for row in found["rows"]:
        assert (row["nu"]["50"]["ad"], row["nu"]["50"]["ad_ci95"]) == (None, None)
        assert row["nu"]["50"]["ic"] == 0
    assert "│ gradcam │ – │ 0.00 │" in " ".join(only().out.split())
    assert "| gradcam | – | 0.00 |" in only("--format", "markdown").out
    assert r"gradcam & \textendash{} & 0.00" in only("--format", "latex").out
    line = next(csv.DictReader(io.StringIO(only("--format", "csv").out)))
    assert (line["ad"], line["ad_low"], line["ic"]) == ("", "", "0.0000")
    gated = only("--max-ad", "100")
    assert gated.code == 1
    assert (
        "gradcam: AD(50) is not defined, because the score of the explained class is 0" in gated.err
    )
    assert only("--min-ic", "0").code == 0
    page = lcam("evaluate", "never_2", "only.h5", "--nu", "100,50", "--report", "page")
    assert page.code == 0, page.err
    assert "maps of score 0 skipped" in (folder / "page" / "index.html").read_text()


def test_compare_leaves_undefined_terms_out_of_every_row(
    folder: Path, lcam: Callable[..., Ended]
) -> None:
    words = ("photos", "--methods", "gradcam,layercam", "--nu", "50", "--format", "json")
    done = lcam("compare", "never_2", *words, "--class", "2", "--class", "0")
    alone = json.loads(lcam("compare", "never_2", *words, "--class", "0").out)
    found = json.loads(done.out)
    assert found["undefined"] == {"ad": 4, "ag": 0}
    assert alone["undefined"] == {"ad": 0, "ag": 0}
    for one, other in zip(found["rows"], alone["rows"], strict=True):
        if one["method"] != "random":  # whose maps are drawn a class and image
            assert one["nu"]["50"]["ad"] == other["nu"]["50"]["ad"]
            assert one["nu"]["50"]["ad_ci95"] == other["nu"]["50"]["ad_ci95"]
    none = lcam("compare", "never_2", *words, "--class", "2")
    assert none.code == 0
    for row in json.loads(none.out)["rows"]:
        assert row["nu"]["50"]["ad"] is None
        assert "ad_diff_to_best" not in row["nu"]["50"]


def test_compare_tells_of_pictures_without_scores_in_the_last_batch(
    folder: Path, lcam: Callable[..., Ended]
) -> None:
    for name in ("004", "005"):
        Image.new("RGB", (50, 40), (9, 9, 9)).save(folder / "photos" / f"{name}.png")
    done = lcam("compare", "standardised", "photos", "--methods", "gradcam", "--format", "json")
    assert done.code == 3, done.err
    for name in ("004", "005"):
        assert done.err.count(f"skipped photos/{name}.png: {NO_NUMBERS}\n") == 1
    assert json.loads(done.out)["skipped"] == 2
