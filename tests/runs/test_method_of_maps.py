"""``lcam evaluate`` by measures that explain again: it makes the method of a maps file anew."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from lcam_cli import EvaluateOptions, LcamError, evaluate_maps
from lcam_cli.measures.registry import MEASURES
from lcam_cli.runs.options import BackboneOptions, EngineOptions
from lcam_cli.runs.reporter import Reporter
from tests.cli import job
from tests.cli.job import Ended, Lcam
from tests.packages import Install, installing
from tests.runs.test_compare_folder import OWN

AGAIN = ("coherency", "adcc", "sensitivity")
CLASSIFIER = ("--backbone", "own.py:net", "--image-size", "32", "--device", "cpu")
WORDS = (*CLASSIFIER, "--batch-size", "4", "--workers", "1")
EVALUATE = ("--backbone", "own.py:net", "--device", "cpu", "--batch-size", "4", "--workers", "1")
EXACT = ("--map-dtype", "float32")

lcam = job.lcam
install = installing("lcam.methods")

PLUGIN = """
from lcam_cli.methods.base import Maps
class Mine:
    name, forward_passes, params = "mine", 1, {"seed": "none", "masks": "few"}
    failing = False
    def __call__(self, engine, forward, classes):
        if self.failing:
            raise OSError("no disk")
        return Maps.of_cam(forward.A.mean(1), forward)
def make(backbone, options):
    return Mine()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    job.begin(tmp_path, monkeypatch, OWN, 6)
    return tmp_path


def explained(lcam: Lcam, *words: str | Path) -> None:
    done = lcam("explain", "photos", *words)
    assert done.code == 0, done.err


def evaluated(lcam: Lcam, *words: str | Path, metrics: str = ",".join(AGAIN)) -> Ended:
    return lcam("evaluate", *EVALUATE, "--format", "json", "--metrics", metrics, *words)


def rows_of(done: Ended) -> dict[str, Any]:
    assert done.code == 0, done.err
    return {row["method"]: row for row in json.loads(done.out)["rows"]}


def check_same(ours: dict[str, Any], theirs: dict[str, Any], digits: float = 2e-3) -> None:
    for name in AGAIN:
        for what in ("mean", "ci95"):
            near = pytest.approx(theirs[name][what], rel=digits, abs=2e-4)
            assert ours[name][what] == near, name


@pytest.mark.parametrize("align", ["--align", "--no-align"])
def test_the_numbers_are_those_of_compare(folder: Path, lcam: Lcam, align: str) -> None:
    classes = ("--class", "0", "--class", "3", align)
    metrics = ("--metrics", ",".join(AGAIN), "--format", "json")
    theirs = lcam("compare", "photos", *WORDS, *classes, "--methods", "gradcam", *metrics)
    explained(lcam, "--method", "gradcam", *WORDS, *classes, *EXACT)
    done = evaluated(lcam)
    ours, expected = rows_of(done), rows_of(theirs)
    assert list(ours) == list(expected) == ["gradcam", "random"]
    check_same(ours["gradcam"], expected["gradcam"])
    assert ours["gradcam"]["align"] == (align == "--align")
    assert ours["random"]["coherency"]["mean"] == pytest.approx(50, abs=15)
    assert expected["random"]["coherency"]["mean"] == pytest.approx(50, abs=15)
    assert "coherency" in json.loads(done.out)["undefined"]
    check_same(ours["random"], expected["random"])


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
@pytest.mark.parametrize("method", ["smoothgradcam++", "random"])
def test_what_draws_draws_the_same(folder: Path, lcam: Lcam, method: str, dtype: str) -> None:
    seeded = ("--seed", "7", "--map-dtype", dtype)
    explained(lcam, "--method", method, *WORDS, *seeded, "--out", "m.h5")
    rows = rows_of(evaluated(lcam, "m.h5", "--no-floor", metrics="coherency"))
    assert rows[method]["coherency"]["mean"] > 40


def test_a_row_of_a_comparison(folder: Path, lcam: Lcam) -> None:
    words = (*WORDS, "--metrics", "coherency,adcc,sensitivity", "--format", "json", "--nu", "50")
    rise = ("--rise-masks", "24", "--rise-cells", "3", "--rise-p", "0.4", "--seed", "5")
    compared = lcam("compare", "photos", *words, *rise, "--methods", "rise,cam", "--out", "all.h5")
    expected = rows_of(compared)
    for name in ("rise", "cam"):
        done = evaluated(lcam, "all.h5", "--method", name, "--no-floor")
        check_same(rows_of(done)[name], expected[name], digits=2e-2)  # kept as float16


@pytest.fixture
def attention(folder: Path, lcam: Lcam) -> Path:
    """A run whose maps are maps.h5."""
    train = lcam("train", "photos", *WORDS, "--epochs", "1", "--quiet")
    assert train.code == 0, train.err
    explained(lcam, "--attention", "runs/own.py-net-img", "--backbone", "own.py:net", *EXACT)
    return folder / "runs" / "own.py-net-img"


def test_a_trained_attention_is_found_or_named(attention: Path, lcam: Lcam) -> None:
    found = rows_of(evaluated(lcam))["lcam-img"]
    attention.rename("elsewhere")
    gone = evaluated(lcam)
    assert (gone.code, gone.out) == (2, "")
    *_, error, hint = gone.err.splitlines()
    assert error == (
        "error: coherency, adcc, sensitivity: the attention that maps.h5 was made with is not "
        "in runs/"
    )
    assert hint == "pass its file: --attention FILE"
    moved = evaluated(lcam, "--attention", "elsewhere")
    assert rows_of(moved)["lcam-img"]["coherency"] == found["coherency"]
    named = evaluated(lcam, "--attention", "elsewhere/attention.safetensors")
    assert rows_of(named)["lcam-img"]["adcc"] == found["adcc"]


def test_another_attention_is_refused(attention: Path, lcam: Lcam) -> None:
    again = ("--epochs", "2", "--out", "runs/other", "--quiet")
    assert lcam("train", "photos", *WORDS, *again).code == 0
    done = evaluated(lcam, "--attention", "runs/other")
    assert done.code == 2
    assert "maps.h5 was made with another attention than runs/other/attention.saf" in done.err
    assert "pass the one with SHA-256 " in done.err
    rows_of(evaluated(lcam))  # the right one is found, though it is not the newest
    assert lcam("evaluate", "--attention", "no", *EVALUATE, "--metrics", "adcc").code == 2
    unused = lcam("evaluate", "--attention", "no", *EVALUATE)
    assert unused.code == 0, "nothing explains again"


def relabel(path: Path, **attributes: Any) -> None:
    with h5py.File(path, "r+") as file:
        for name, value in attributes.items():
            file.attrs[name] = value


def test_another_method_is_told_before_any_work(folder: Path, lcam: Lcam) -> None:
    explained(lcam, "--method", "gradcam", *WORDS)
    relabel(folder / "maps.h5", method="layercam")
    done = evaluated(lcam, "--report", "page")
    assert (done.code, done.out) == (2, "")
    *_, error, hint = done.err.splitlines()
    assert error.startswith(
        "error: coherency, adcc, sensitivity: layercam does not reproduce the maps in "
        "maps.h5: they differ by "
    )
    assert hint.endswith("write the maps again with lcam explain")
    assert not Path("page").exists()
    some = evaluated(lcam, metrics="all")
    assert "warning: skipped coherency, adcc, sensitivity: layercam does not" in some.err
    assert some.err.count("skipped coherency") == 1
    assert set(AGAIN).isdisjoint(rows_of(some)["layercam"])
    assert "sparseness" in rows_of(some)["layercam"]
    assert evaluated(lcam, metrics="all,adcc").code == 2, "it is named"


@pytest.mark.parametrize(
    ("said", "params", "told"),
    [
        ("theirs", "{}", "theirs, which made maps.h5, cannot be created again: unknown method"),
        ("rise", '{"masks": 10, "cells": 100000}', "is of 10 masks of 100000×100000 cells"),
        ("rise", '{"masks": "x"}', "masks of rise in maps.h5 cannot be 'x'"),
        ("rise", '{"masks": 4, "p": 0}', "RISE with p = 0"),
        ("random", '{"seed": -1}', "was made by random with seed -1, but here it is 0"),
        ("smoothgradcam++", '{"copies": 3}', "with copies 3, but here it is 25"),
        ("lcam-img", "{}", "the attention that maps.h5 was made with is not in runs/"),
        ("lcam-img", '{"attention": ["x"]}', "the attention that maps.h5 was made with is not"),
    ],
)
def test_what_cannot_be_made_again(
    folder: Path, lcam: Lcam, said: str, params: str, told: str
) -> None:
    explained(lcam, "--method", "gradcam", *WORDS)
    relabel(folder / "maps.h5", method=said, method_params=params)
    options = EvaluateOptions(
        metrics=("coherency",),
        backbone=BackboneOptions(backbone="own.py:net"),
        engine=EngineOptions(batch_size=4, workers=1, device="cpu"),
    )
    with pytest.raises(LcamError) as refused:
        evaluate_maps("maps.h5", options)
    assert told in refused.value.what
    assert refused.value.hint
    assert len(refused.value.what.splitlines()) == 1


def test_every_measure_in_compare_and_evaluate(folder: Path, lcam: Lcam) -> None:
    objects = {name for name, measure in MEASURES.items() if measure.needs_objects}
    everything = set(MEASURES) - objects
    words = ("--metrics", "all", "--format", "json", "--nu", "50")
    compared = lcam("compare", "photos", *WORDS, "--methods", "gradcam", *words)
    explained(lcam, "--method", "gradcam", *WORDS)
    for rows in (rows_of(compared), rows_of(evaluated(lcam, "--nu", "50", metrics="all"))):
        for row in rows.values():
            assert everything <= row.keys() | row["nu"]["50"].keys()
            assert objects.isdisjoint(row)


def test_odd_pictures(folder: Path, lcam: Lcam) -> None:
    """One pixel, one colour, and black, of which most maps are flat."""
    Image.new("RGB", (1, 1), (200, 10, 30)).save("photos/one.png")
    Image.new("RGB", (40, 40), (0, 0, 0)).save("photos/black.png")
    Image.fromarray(np.full((9, 300, 3), 255, np.uint8)).save("photos/wide.png")
    compared = lcam(
        *("compare", "photos", *WORDS, "--methods", "gradcam,layercam,rise", "--rise-masks", "8"),
        *("--class", "1", "--class", "2", "--metrics", ",".join(AGAIN), "--format", "json"),
    )
    rows = rows_of(compared)
    assert json.loads(compared.out)["images"] == 9
    for row in rows.values():
        for name in AGAIN:
            low, high = row[name]["ci95"]
            assert low <= row[name]["mean"] <= high
        assert 0 <= row["coherency"]["mean"] <= 100
        assert 0 <= row["adcc"]["mean"] <= 100
    undefined = json.loads(compared.out)["undefined"]
    assert undefined["adcc"] >= undefined["coherency"]


def test_the_first_pictures_may_be_gone(folder: Path, lcam: Lcam) -> None:
    explained(lcam, "--method", "gradcam", *WORDS)
    for i in range(4):  # the whole first batch
        Path(f"photos/00{i}.jpg").unlink()
    done = evaluated(lcam)
    assert done.code == 3
    assert json.loads(done.out)["images"] == 2
    shutil.rmtree("photos")
    assert evaluated(lcam).code == 2


def test_whole_pixels_are_told_apart_from_values(folder: Path, lcam: Lcam) -> None:
    words = ("--methods", "gradcam", "--format", "json", "--nu", "100,30")

    def compared(keep: str, *more: str) -> Ended:
        return lcam("compare", "photos", *WORDS, *words, "--keep", keep, *more)

    values, whole = compared("values"), compared("whole")
    assert len(list(Path("runs/compare").iterdir())) == 2, "neither takes over the other's"
    assert json.loads(compared("whole", "--resume").out)["keep"] == "whole"
    assert json.loads(values.out)["keep"] == "values"
    for row in rows_of(whole).values():
        assert row["nu"]["100"]["ad"] == row["nu"]["100"]["ic"] == row["nu"]["100"]["ag"] == 0
    assert rows_of(whole)["gradcam"]["nu"]["30"] != rows_of(values)["gradcam"]["nu"]["30"]
    explained(lcam, "--method", "gradcam", *WORDS, *EXACT)
    for keep, theirs in (("values", values), ("whole", whole)):
        ours = lcam("evaluate", *EVALUATE, "--format", "json", "--nu", "100,30", "--keep", keep)
        for name, row in rows_of(ours).items():
            for nu, scores in row["nu"].items():
                expected = rows_of(theirs)[name]["nu"][nu]
                for measure in ("ad", "ic", "ag"):
                    assert scores[measure] == pytest.approx(expected[measure], abs=1e-2)


def test_the_reporter_is_told_what_is_left_out(folder: Path, lcam: Lcam) -> None:
    explained(lcam, "--method", "gradcam", *WORDS)
    relabel(folder / "maps.h5", method="theirs")
    warned: list[str] = []
    options = EvaluateOptions(
        metrics=("all",),
        backbone=BackboneOptions(backbone="own.py:net"),
        engine=EngineOptions(batch_size=4, workers=1, device="cpu"),
    )
    found = evaluate_maps("maps.h5", options, reporter=Reporter(on_warning=warned.append))
    assert found.results is not None
    assert warned[0].startswith("skipped coherency, adcc, sensitivity: theirs, which made maps")


def test_a_packages_method_is_made_again_while_it_is_there(
    folder: Path, lcam: Lcam, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("lcam_mine", PLUGIN, {"mine": "lcam_mine:make"})
    explained(lcam, "--method", "mine", *WORDS)
    assert rows_of(evaluated(lcam))["mine"]["coherency"]["mean"] > 50
    monkeypatch.setattr("lcam_mine.Mine.failing", True)
    failing = evaluated(lcam)
    assert failing.code == 2
    assert "mine cannot explain any of the first images of maps.h5 again" in failing.err
    assert "mine fails when it explains again: the plug-in mine failed: OSError" in failing.err
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    gone = evaluated(lcam)
    assert gone.code == 2
    assert "mine, which made maps.h5, cannot be created again: unknown method 'mine'" in gone.err
    assert set(AGAIN).isdisjoint(rows_of(evaluated(lcam, metrics="all"))["mine"])


def test_what_fails_on_a_masked_picture_costs_that_number_alone(
    folder: Path, lcam: Lcam, install: Install
) -> None:
    fails_when_dark = PLUGIN.replace("self.failing", "(forward.x.mean((1, 2, 3)) < 0.1).any()")
    install("lcam_mine", fails_when_dark, {"mine": "lcam_mine:make"})
    explained(lcam, "--method", "mine", *WORDS, *EXACT)
    with h5py.File("maps.h5", "r+") as file:
        file["saliency"][5] *= 0.05  # so that one image is dark behind its map
    done = evaluated(lcam, "--nu", "50")
    assert done.code == 0, done.err
    content = json.loads(done.out)
    assert content["images"] == 6
    assert content["undefined"]["coherency"] == 1
    assert content["undefined"]["adcc"] == 1
    assert "1 map skipped: flat, or the masked image has a flat map or none" in done.err
    assert done.err.count("mine fails when it explains again: ") == 1
    assert rows_of(done)["mine"]["sensitivity"]["mean"] is not None


def test_an_attention_that_no_measure_needs_is_not_silently_passed_over(
    folder: Path, lcam: Lcam
) -> None:
    explained(lcam, "--method", "gradcam", *WORDS)
    done = evaluated(lcam, "--attention", "nowhere", metrics="ag")
    assert done.code == 0
    assert "--attention nowhere is not used: no measure of this run explains again" in done.err
