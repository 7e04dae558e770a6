"""``lcam sanity`` through the real parser, on the tiny network."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import lcam_cli.measures.sanity as module
from lcam_cli.methods.base import Method
from lcam_cli.methods.registry import METHODS, Entry
from tests.cli import job
from tests.cli.job import Ended, Lcam
from tests.conftest import ROOT
from tests.packages import Install, installing

OWN = """
import torch
from tests.tiny import tiny_network
from tests.engine.test_cascade import WithNorms
def net():
    return tiny_network()
norms = WithNorms()
def single():
    return tiny_network(1)
def script():
    return torch.jit.script(tiny_network())
def frozen():
    return torch.jit.freeze(torch.jit.script(tiny_network().eval()))
"""
SETTINGS = """
[train]
data = "photos"
backbone = "own.py:net"
image-size = 32
epochs = 1
batch-size = 4

[sanity]
backbone = "own.py:net"
image-size = 32
batch-size = 4
workers = 1
device = "cpu"
"""
# A method of a package that sees no network: how much the image changes from pixel to pixel.
EDGES = """
import torch.nn.functional as F
from lcam_cli.methods.base import Maps

class Edges:
    name, forward_passes = "edges", 0
    def __init__(self):
        self.params = {}
    def __call__(self, engine, forward, classes):
        grey = forward.x.mean(1)
        steps = F.pad(grey.diff(dim=2).abs(), (0, 1))
        return Maps(steps / steps.flatten(1).amax(1)[:, None, None])

def make(backbone, options):
    "edges, of the image alone"
    return Edges()
"""

lcam = job.lcam
install = installing("lcam.methods")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    job.begin(tmp_path, monkeypatch, OWN, 6)
    (tmp_path / "lcam.toml").write_text(SETTINGS)
    return tmp_path


def rows(done: Ended) -> dict[str, Any]:
    assert done.code == 0, done.err
    return {row["method"]: row for row in json.loads(done.out)["rows"]}


def test_a_method_that_ignores_the_network_is_marked_and_fails_the_gate(
    folder: Path, lcam: Lcam, install: Install
) -> None:
    install("lcam_edges", EDGES, {"edges": "lcam_edges:make"})
    words = ("sanity", "photos", "--methods", "edges,layercam", "--stages", "3")
    found = rows(lcam(*words, "--format", "json"))
    assert list(found) == ["edges", "layercam", "random"]
    edges, noise = found["edges"], found["random"]
    assert [one["similarity"] for one in edges["stages"]] == [1, 1, 1]
    assert edges["other_class"]["similarity"] == 1
    assert (edges["moves"], edges["verdict"]) == (False, "hardly moves")
    assert [one["similarity"] for one in noise["stages"]] == [1, 1, 1]
    assert noise["verdict"] == "does not use the network"
    assert found["layercam"]["stages"][-1]["similarity"] < 0.95
    gated = lcam(*words, "--max-similarity", "0.95")
    assert gated.code == 1
    said = [line for line in gated.err.splitlines() if line.startswith("error")]
    assert said == [
        "error: edges: with all weights randomised the similarity is 1.0000, above 0.95"
    ], "noise is held to nothing"
    assert lcam(*words, "--max-similarity", "1").code == 0


def test_the_table_says_what_is_what(folder: Path, lcam: Lcam) -> None:
    done = lcam("sanity", "photos", "--methods", "gradcam,layercam", "--max-images", "4")
    assert done.code == 0, done.err
    for text in (
        *("6", "2", "0", "other class", "verdict", "gradcam", "layercam", "random", " to "),
        *("95% bootstrap interval", "4 images", "does not use the network", "seed 0"),
    ):
        assert text in done.out, text
    assert "own.py:net, layer 3" in done.err
    assert "sanity: " in done.err
    assert " maps/s" in done.err


def test_all_formats_and_the_file(folder: Path, lcam: Lcam) -> None:
    words = ("sanity", "photos", "--methods", "gradcam", "--no-floor", "--stages", "2")
    content = json.loads(lcam(*words, "--format", "json").out)
    assert content["schema"] == "lcam-sanity/1"
    assert content["stages"] == [
        {"name": "6 to 2", "layers": ["6", "2"]},
        {"name": "0", "layers": ["0"]},
    ]
    (row,) = content["rows"]
    lines = list(csv.DictReader(io.StringIO(lcam(*words, "--format", "csv").out)))
    assert [line["stage"] for line in lines] == ["1", "2", ""]
    assert [line["last_layer"] for line in lines] == ["2", "0", ""]
    for line, one in zip(lines, [*row["stages"], row["other_class"]], strict=True):
        low, high = one["ci95"]
        assert low <= one["similarity"] <= high
        assert float(line["similarity"]) == one["similarity"]
        assert (float(line["low"]), float(line["high"])) == (low, high)
        assert int(line["images"]) + int(line["flat_maps"]) == 6
    markdown = lcam(*words, "--format", "markdown").out
    assert markdown.startswith("| method | 6 to 2 | 0 | other class | verdict |\n| --- | ---: |")
    assert f"{row['stages'][1]['similarity']:.2f}" in markdown
    assert r"\begin{tabular}{lrrrl}" in lcam(*words, "--format", "latex").out
    assert lcam(*words, "--out", "s.md").out == ""
    assert (folder / "s.md").read_text() == markdown
    again = lcam(*words, "--out", "s.md")
    assert (again.code, "s.md exists" in again.err) == (2, True)


def test_the_same_seed_draws_the_same_weights_and_another_others(folder: Path, lcam: Lcam) -> None:
    words = ("sanity", "photos", "--methods", "layercam", "--format", "json", "--no-floor")
    first = lcam(*words).out
    assert lcam(*words).out == first
    assert lcam(*words, "--batch-size", "1").out == first
    assert lcam(*words, "--seed", "1").out != first


def test_the_result_says_whether_maps_are_placed_by_receptive_fields(
    folder: Path, lcam: Lcam
) -> None:
    words = ("sanity", "photos", "--methods", "layercam", "--stages", "1", "--max-images", "3")
    placed = rows(lcam(*words, "--format", "json"))
    tiled = rows(lcam(*words, "--format", "json", "--no-align"))
    assert (placed["layercam"]["align"], tiled["layercam"]["align"]) == (True, False)
    assert placed["layercam"]["stages"] != tiled["layercam"]["stages"]
    shown = " ".join(lcam(*words, "--no-align").out.split())
    assert "cells tile the image (--no-align)" in shown


def test_a_learned_attention_keeps_its_weights(folder: Path, lcam: Lcam) -> None:
    assert lcam("train", "--out", "runs/one").code == 0
    found = rows(lcam("sanity", "photos", "--methods", "lcam-img", "--format", "json"))
    first, *_, last = found["lcam-img"]["stages"]
    assert first["similarity"] == 1, "only the head is drawn anew: neither features nor attention"
    assert last["similarity"] is None or last["similarity"] < 1


def test_the_figure_has_stages_down_and_pictures_across(folder: Path, lcam: Lcam) -> None:
    words = ("sanity", "photos", "--methods", "gradcam,layercam", "--stages", "2")
    done = lcam(*words, "--figure", "photos/f.png")
    assert done.code == 0, done.err
    with Image.open("photos/f.png") as figure:
        width, height = figure.size
    tile = 308
    assert width > 2 * 6 * tile
    assert height // tile == 5, "the image, as trained, two stages, the other class"
    assert lcam(*words, "--figure", "photos/f.png").code == 2
    again = lcam(*words, "--format", "json")
    assert json.loads(again.out)["images"] == 6, "its own figure is no image to explain"


def test_a_network_at_module_level_stays_as_it_was(folder: Path, lcam: Lcam) -> None:
    """Batch norms take new statistics: of a copy."""
    from tests.engine.test_cascade import WithNorms

    words = ("sanity", "photos", "--backbone", "own.py:norms", "--methods", "gradcam,layercam")
    found = rows(lcam(*words, "--format", "json", "--max-images", "3"))
    assert all(one["images"] + one["flat_maps"] == 3 for one in found["layercam"]["stages"])
    file = str(folder / "own.py")
    own = next(m for m in [*sys.modules.values()] if getattr(m, "__file__", None) == file)
    expected = WithNorms().state_dict()
    assert all((value == expected[name]).all() for name, value in own.norms.state_dict().items())
    assert all(p.requires_grad for p in own.norms.parameters())


def test_one_class_has_no_other(folder: Path, lcam: Lcam) -> None:
    words = ("sanity", "photos", "--backbone", "own.py:single", "--activation", "sigmoid")
    found = rows(lcam(*words, "--methods", "layercam", "--format", "json"))
    assert found["layercam"]["other_class"] is None
    assert "–" in lcam(*words, "--methods", "layercam").out


def test_torchscript_is_drawn_from_its_own_spreads_and_said_to_be(folder: Path, lcam: Lcam) -> None:
    words = ("sanity", "photos", "--backbone", "own.py:script", "--methods", "rise")
    done = lcam(*words, "--rise-masks", "64", "--format", "json")
    found = rows(done)
    assert "TorchScript does not show how its layers are initialised" in done.err
    assert [one["similarity"] for one in found["random"]["stages"]] == [1, 1, 1]
    assert found["rise"]["stages"][-1]["similarity"] < 1, "few masks on a network that is unsure"


def test_what_cannot_be_checked_is_refused(
    folder: Path, lcam: Lcam, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = lcam("sanity", "photos", "--backbone", "own.py:frozen", "--methods", "rise")
    assert frozen.code == 2
    assert "none of this network's weights can be randomised" in frozen.err
    assert lcam("sanity").code == 2
    assert lcam("sanity", "photos", "--stages", "9").code == 2
    assert lcam("sanity", "photos", "--max-similarity", "2").code == 2
    wrong = lcam("sanity", "photos", "--out", "a.png", "--figure", "./a.png")
    assert (wrong.code, "a figure is --figure a.png" in wrong.err) == (2, True)
    assert "did you mean gradcam" in lcam("sanity", "photos", "--methods", "gradcan").err
    started_by_torchrun = {"MASTER_ADDR": "localhost", "MASTER_PORT": "1", "WORLD_SIZE": "2"}
    for name, value in {**started_by_torchrun, "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    ranks = lcam("sanity", "photos", "--methods", "gradcam")
    assert (ranks.code, "runs in one process" in ranks.err) == (2, True)


def test_a_method_that_explains_nothing(
    folder: Path, lcam: Lcam, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        name, forward_passes = "failing", 1

        def __init__(self) -> None:
            self.params: dict[str, Any] = {}

        def __call__(self, *_given: object) -> Any:
            raise RuntimeError("no")

    def make(*_given: object) -> Method:
        return Failing()

    monkeypatch.setitem(METHODS, "failing", Entry("fails", make))
    named = lcam("sanity", "photos", "--methods", "failing,gradcam")
    assert named.code == 2
    assert "failing could not explain any image" in named.err
    done = lcam("sanity", "photos", "--stages", "1", "--max-images", "2")
    assert done.code == 3
    assert "skipped failing" in done.err
    assert "failing" not in done.out


def test_broken_pictures_are_skipped(folder: Path, lcam: Lcam) -> None:
    (folder / "photos" / "000.jpg").write_text("no picture")
    words = ("sanity", "photos", "--methods", "gradcam", "--stages", "1", "--format", "json")
    done = lcam(*words)
    assert done.code == 3
    assert done.err.count("skipped photos/000.jpg") == 1
    content = json.loads(done.out)
    assert (content["images"], content["skipped"]) == (5, 1)
    assert lcam(*words, "--strict").code == 2


def test_pictures_of_one_colour_have_flat_maps_which_are_told(folder: Path, lcam: Lcam) -> None:
    plain = folder / "plain"
    plain.mkdir()
    for i in range(2):
        Image.fromarray(np.full((40, 40, 3), 90 * i, np.uint8)).save(plain / f"{i}.png")
    done = lcam("sanity", "plain", "photos", "--methods", "gradcam", "--format", "json")
    assert "flat maps have no rank correlation and are skipped (most in one column" in done.err


def test_an_interrupt_leaves_no_result(
    folder: Path, lcam: Lcam, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = module.ranks

    def interrupted(values: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        monkeypatch.setattr(module, "ranks", original)
        return original(values)

    monkeypatch.setattr(module, "ranks", interrupted)
    words = ("sanity", "photos", "--methods", "gradcam", "--out", "s.json", "--figure", "s.png")
    done = lcam(*words)
    assert done.code == 130
    assert "interrupted: no result" in done.err
    assert not (folder / "s.json").exists()
    assert not (folder / "s.png").exists()


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys; from lcam_cli.__main__ import run; from lcam_cli.cli.app import lcam_app; "
        "run(lcam_app(), ['sanity', '--help']); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0
    assert b"--max-similarity" in done.stdout
