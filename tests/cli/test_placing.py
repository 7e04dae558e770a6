"""Where maps put their cells, through the real parser: the same for every command and method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.cli import job
from tests.cli.job import Lcam
from tests.tiny import write_pictures

OWN = """
from torch import nn
from tests.tiny import tiny_network
def net():
    return tiny_network()
class Turned(nn.PixelUnshuffle):
    def forward(self, x):
        return super().forward(x).flip(2)  # no grid begins at the bottom
def unknown():
    rest = list(tiny_network())[3:]
    return nn.Sequential(Turned(4), nn.Conv2d(48, 6, 1), nn.ReLU(), *rest[1:])
"""
NET = ("--backbone", "own.py:net", "--image-size", "32", "--batch-size", "4")
UNKNOWN = ("--backbone", "own.py:unknown", "--image-size", "32", "--batch-size", "4")
WARNING = (
    "warning: the positions of the cells of layer 2 are not known: the maps tile the image evenly"
)

lcam = job.lcam


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    job.begin(tmp_path, monkeypatch, OWN, 5)
    return tmp_path


def explained(lcam: Lcam, out: str, *words: str) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """V, L and the method's record of a maps file that a command writes."""
    done = lcam("explain", "photos", "--out", out, "--map-dtype", "float32", *words)
    assert done.code == 0, done.err
    with h5py.File(out) as file:
        return file["saliency"][:], file["cam"][:], json.loads(file.attrs["method_params"])


def scaled(L: np.ndarray) -> np.ndarray:
    """ζ(L)."""
    low, high = L.min((1, 2), keepdims=True), L.max((1, 2), keepdims=True)
    return (L - low) / (high - low)


def test_explain_puts_cells_where_they_lie(folder: Path, lcam: Lcam) -> None:
    words = ("--method", "gradcam", *NET)
    default, L, params = explained(lcam, "default.h5", *words)
    # Two convolutions of stride 2 with padding 1: the cells lie at pixels 0, 4, 8, ….
    np.testing.assert_allclose(default[:, ::4, ::4], scaled(L), atol=1e-5)
    assert (params["align"], params["grid"]) == (True, {"start": [0, 0], "step": [4, 4]})
    asked, _, _ = explained(lcam, "asked.h5", *words, "--align")
    np.testing.assert_array_equal(default, asked)
    tiled, _, params = explained(lcam, "tiled.h5", *words, "--no-align")
    assert (params["align"], params["grid"]) == (False, None)
    assert np.abs(tiled - default).max() > 0.1


@pytest.mark.parametrize("words", [("--mode", "img"), ("--mode", "bla"), ("--mode", "tame")])
def test_a_learned_attention_is_placed_however_it_was_trained(
    folder: Path, lcam: Lcam, words: tuple[str, ...]
) -> None:
    recipe = ("--recipe", "paper") if "img" in words else ()
    layers = ("--layer", "1", "--layer", "3") if "tame" in words else ()
    done = lcam("train", "photos", *NET, *words, *recipe, *layers, "--epochs", "1", "--out", "run")
    assert done.code == 0, done.err
    V, L, params = explained(lcam, "maps.h5", "--attention", "run", "--backbone", "own.py:net")
    assert params["training"]["align"] is ("img" not in words), "the paper's recipe tiles"
    assert params["align"] is True
    step = 32 // L.shape[1]
    np.testing.assert_allclose(V[:, ::step, ::step], scaled(L), atol=1e-5)
    tiled, _, _ = explained(
        lcam, "tiled.h5", "--attention", "run", "--backbone", "own.py:net", "--no-align"
    )
    assert np.abs(tiled - V).max() > 0.05, "--no-align holds for every recipe"


def rows(text: str) -> list[dict[str, Any]]:
    """The rows of a result in JSON, without how long they took."""
    found: list[dict[str, Any]] = json.loads(text)["rows"]
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in found]


def test_compare_puts_all_rows_on_equal_terms(folder: Path, lcam: Lcam) -> None:
    words = ("compare", "photos", *NET, "--methods", "gradcam,rise,scorecam", "--rise-masks", "8")
    default, asked, tiled = (
        lcam(*words, "--format", "json", "--state", f"state{i}", *more)
        for i, more in enumerate([(), ("--align",), ("--no-align",)])
    )
    assert rows(default.out) == rows(asked.out)
    assert [row["align"] for row in rows(default.out)] == [True, False, True, True], (
        "rise has no cells of the layer"
    )
    assert [row["align"] for row in rows(tiled.out)] == [False] * 4
    for i, (one, other) in enumerate(zip(rows(default.out), rows(tiled.out), strict=True)):
        drops = [[row["nu"][nu]["ad"] for nu in ("100", "50", "15")] for row in (one, other)]
        assert (drops[0] == drops[1]) == (i == 1), "all but rise's, also the random row's"


@pytest.mark.parametrize("form", ["table", "markdown", "latex"])
def test_the_line_below_a_table_says_what_tiles(folder: Path, lcam: Lcam, form: str) -> None:
    def caption(*words: str) -> str:
        done = lcam("compare", "photos", "--format", form, "--methods", "gradcam,rise", *words)
        assert done.code == 0, done.err
        return " ".join(done.out.replace("\\", "").split())

    few = ("--rise-masks", "8")
    tiled = "; cells tile the image (--no-align)"
    assert tiled in caption(*NET, *few, "--no-align")
    placed = caption(*NET, *few)
    for word in ("tile", "align", "receptive"):
        assert word not in placed
    not_known = "not aligned: gradcam (the positions of the cells are not known)"
    assert f"; {not_known}" in caption(*UNKNOWN, *few, "--report", "page")
    assert not_known in Path("page/index.html").read_text()


def test_what_is_compared_tiled_is_not_taken_over(folder: Path, lcam: Lcam) -> None:
    words = ("compare", "photos", *NET, "--methods", "gradcam", "--format", "json")
    tiled = rows(lcam(*words, "--no-align").out)
    placed = rows(lcam(*words, "--resume").out)
    assert placed[0]["align"] is True
    assert placed[0]["nu"] != tiled[0]["nu"]
    assert placed == rows(lcam(*words, "--state", "another").out)


def test_diagnose_puts_cells_where_they_lie(folder: Path, lcam: Lcam) -> None:
    for c in range(4):
        write_pictures(folder / "classes" / str(c), 3, seed=c)
    words = ("diagnose", "classes", "--labels", "folders", "--method", "gradcam", *NET)
    default, asked, tiled = (
        json.loads(lcam(*words, "--format", "json", *more).out)["pictures"]
        for more in [(), ("--align",), ("--no-align",)]
    )
    assert default == asked
    assert default != tiled
    said = "; cells tile the image (--no-align)"
    assert said not in lcam(*words, "--format", "markdown").out
    assert said in lcam(*words, "--format", "markdown", "--no-align").out


def test_a_grid_that_is_not_known_is_said_once(folder: Path, lcam: Lcam) -> None:
    done = lcam("compare", "photos", *UNKNOWN, "--methods", "gradcam,gradcam++,rise")
    assert done.code == 0, done.err
    assert done.err.count("not known") == 1
    assert WARNING in done.err.splitlines()
    words = ("explain", "photos", *UNKNOWN)
    assert WARNING in lcam(*words, "--method", "gradcam").err
    assert WARNING not in lcam(*words, "--method", "gradcam", "--no-align", "--overwrite").err
    few = ("--method", "rise", "--max-images", "1", "--overwrite")
    assert "not known" not in lcam(*words, *few).err, "rise has no cells of the layer"


def as_of_0_1_0(file: str) -> None:
    """Make a file what lcam 0.1.0 wrote without --align or --no-align, which it did not record."""
    with h5py.File(file, "r+") as opened:
        params = json.loads(opened.attrs["method_params"])
        del params["align"]
        opened.attrs["method_params"] = json.dumps(params, sort_keys=True)
        opened.attrs["lcam_version"] = "0.1.0"


def test_a_file_never_holds_maps_of_both_placings(folder: Path, lcam: Lcam) -> None:
    words = ("explain", "photos", "--method", "gradcam", *NET)
    assert lcam(*words, "--no-align", "--max-images", "5").code == 0
    as_of_0_1_0("maps.h5")
    mixed = lcam(*words, "--resume")
    assert mixed.code == 2
    assert "maps.h5 holds other maps: they tile the image evenly (--no-align), these are" in (
        mixed.err
    )
    assert "use the same settings, or pass --overwrite or another --out" in mixed.err
    assert lcam(*words, "--resume", "--no-align").code == 0
    assert lcam(*words, "--overwrite").code == 0
    as_of_0_1_0("maps.h5")  # as of an attention that the recipe auto had trained
    assert lcam(*words, "--resume").code == 0
    mixed = lcam(*words, "--resume", "--no-align")
    assert "they are placed by the receptive fields of their cells (--align), these" in mixed.err


def test_a_folder_of_pngs_never_does_either(folder: Path, lcam: Lcam) -> None:
    words = ("explain", "photos", "--method", "gradcam", *NET, "--out", "pngs")
    assert lcam(*words, "--no-align").code == 0
    mixed = lcam(*words, "--resume")
    assert mixed.code == 2
    assert "they tile the image evenly (--no-align), these are" in mixed.err
    assert lcam(*words, "--resume", "--no-align").code == 0


def test_the_random_row_is_placed_as_the_maps_of_the_file(folder: Path, lcam: Lcam) -> None:
    words = ("explain", "photos", "--method", "gradcam", *NET)
    compare = ("compare", "photos", *NET, "--methods", "gradcam", "--format", "json")
    for placing in ("--align", "--no-align"):
        assert lcam(*words, placing, "--overwrite").code == 0
        for older in (False, True):
            if older:
                as_of_0_1_0("maps.h5")
            done = lcam("evaluate", "--backbone", "own.py:net", "--format", "json")
            maps, floor = rows(done.out)
            assert (maps["align"], floor["align"]) == (placing == "--align",) * 2
            theirs = rows(lcam(*compare, placing).out)[1]
            for nu, scores in floor["nu"].items():
                assert scores["ad"] == pytest.approx(theirs["nu"][nu]["ad"], abs=1e-3)
    line = lcam("evaluate", "--backbone", "own.py:net").out
    assert "cells tile the image (--no-align)" in " ".join(line.split())
