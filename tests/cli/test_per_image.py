"""``--per-image`` and ``--list-metrics`` of compare and evaluate, on the tiny network."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcam_cli import (
    BackboneOptions,
    CompareOptions,
    EngineOptions,
    EvaluateOptions,
    compare_folder,
    evaluate_maps,
)
from lcam_cli.measures import registry
from lcam_cli.measures.insertion import Insertion
from lcam_cli.working_folder import RunPath
from tests.cli import job
from tests.cli.job import Lcam

OWN = """
from tests.tiny import tiny_network
def net():
    return tiny_network()
"""
COMMON = 'backbone = "own.py:net"\nimage-size = 32\nbatch-size = 4\n'
SETTINGS = (
    f"[compare]\n{COMMON}\n[explain]\n{COMMON}\n"
    '[evaluate]\nbackbone = "own.py:net"\nbatch-size = 4\n'
)
METRICS = "ad,ic,ag,complexity,sparseness,insertion"
COMPARE = ("compare", "photos", "--methods", "gradcam,gradcam++", "--nu", "100,12.5")

lcam = job.lcam


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    job.begin(tmp_path, monkeypatch, OWN, 10)
    (tmp_path / "lcam.toml").write_text(SETTINGS)
    return tmp_path


def lines(file: Path) -> list[dict[str, Any]]:
    if file.suffix == ".parquet":
        return list(pytest.importorskip("pyarrow.parquet").read_table(file).to_pylist())
    with file.open(newline="", encoding="utf-8") as text:
        return list(csv.DictReader(text))


def means(found: Sequence[dict[str, Any]], method: str, column: str) -> float:
    """A column's mean over images, of the means over their classes."""
    by_picture: dict[str, list[float]] = {}
    for line in found:
        if line["method"] == method and line[column] not in ("", None):
            by_picture.setdefault(line["path"], []).append(float(line[column]))
    return float(np.mean([np.mean(one) for one in by_picture.values()]))


def check_means(result: dict[str, Any], found: Sequence[dict[str, Any]]) -> None:
    """Every number of the table is the mean of its column."""
    keys = {"insertion": "auc"}
    for row in result["rows"]:
        for nu, scores in row["nu"].items():
            for name in ("ad", "ic", "ag"):
                expected = means(found, row["method"], f"{name}_{nu}")
                assert scores[name] == pytest.approx(expected, abs=1e-4)
        for name in ("complexity", "sparseness", "insertion"):
            expected = means(found, row["method"], name)
            assert row[name][keys.get(name, "mean")] == pytest.approx(expected, abs=1e-4)
        assert row["mean_saliency"] == pytest.approx(
            np.mean([float(o["mean_saliency"]) for o in found if o["method"] == row["method"]]),
            abs=1e-4,
        )


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_compares_columns_have_the_tables_means(folder: Path, lcam: Lcam, suffix: str) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    words = ("--metrics", METRICS, "--class", "1", "--class", "3", "--format", "json")
    done = lcam(*COMPARE, *words, "--per-image", f"numbers.{suffix}")
    assert done.code == 0, done.err
    assert f"every image's numbers are in numbers.{suffix}" in done.err
    found = lines(folder / f"numbers.{suffix}")
    assert len(found) == 10 * 2 * 3
    assert [line["path"] for line in found[::6]] == [f"{k:03}.jpg" for k in range(10)]
    assert [line["method"] for line in found[:3]] == ["gradcam", "gradcam++", "random"]
    check_means(json.loads(done.out), found)
    for line in found:
        full, kept = float(line["score"]), float(line["score_12.5"])
        assert float(line["ad_12.5"]) == pytest.approx(100 * max(0, full - kept) / full, abs=2e-3)
        assert int(line["predicted_index"]) >= 0


def test_evaluates_columns_have_the_tables_means(folder: Path, lcam: Lcam) -> None:
    assert lcam("explain", "photos", "--method", "gradcam", "--top-k", "2").code == 0
    (folder / "labels.txt").write_text("003.jpg 2\n")
    words = ("--metrics", METRICS, "--nu", "100,12.5", "--format", "json")
    outputs = ("--per-image", "numbers.csv", "--labels", "labels.txt")
    done = lcam("evaluate", *words, *outputs)
    assert done.code == 0, done.err
    found = lines(folder / "numbers.csv")
    assert len(found) == 10 * 2 * 2
    check_means(json.loads(done.out), found)
    assert {line["true_index"] for line in found if line["path"] == "003.jpg"} == {"2"}
    assert {line["true_index"] for line in found if line["path"] != "003.jpg"} == {""}
    assert all(line["class_index"] == line["predicted_index"] for line in found[::4])


class Some(Insertion):
    """Not defined for some of the maps, others for each method."""

    name = title = "insertion"

    def numbers(self, scores: Any, nu: float) -> Any:
        numbers = super().numbers(scores, nu)
        return numbers.masked_fill(scores.V.mean((1, 2)) > 0.5, math.nan)


def test_what_one_method_lacks_none_has(
    folder: Path, lcam: Lcam, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.MEASURES, "insertion", Some)
    words = ("--metrics", "insertion", "--format", "json", "--per-image", "numbers.csv")
    done = lcam(*COMPARE, *words)
    assert done.code == 0, done.err
    found = lines(folder / "numbers.csv")
    lacking = [not line["insertion"] for line in found]
    assert 0 < sum(lacking) < len(found)
    assert lacking[::3] == lacking[1::3] == lacking[2::3]
    for row in json.loads(done.out)["rows"]:
        expected = means(found, row["method"], "insertion")
        assert row["insertion"]["auc"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("command", ["compare", "evaluate"])
def test_what_cannot_be_written_is_refused_at_once(
    folder: Path, lcam: Lcam, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {"compare": COMPARE, "evaluate": ("evaluate", "maps.h5")}[command]
    (folder / "there.csv").write_text("mine")
    done = lcam(*words, "--per-image", "there.csv")
    assert done.code == 2
    assert "there.csv exists" in done.err
    done = lcam(*words, "--per-image", "numbers.txt")
    assert done.code == 2
    assert "--per-image numbers.txt does not end in .csv, .json or .parquet" in done.err
    (folder / "boxes.csv").write_text("mine")
    boxes = ("--boxes", "./boxes.csv", "--metrics", "pointing")
    done = lcam(*words, *boxes, "--per-image", "boxes.csv", "--overwrite")
    assert done.code == 2
    assert "--per-image and --boxes name the same file, boxes.csv" in done.err
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = lcam(*words, "--per-image", "numbers.parquet")
    assert done.code == 2
    assert "Parquet files need pyarrow, which is not installed" in done.err
    assert "pip install 'lcam-cli[parquet]', or in lcam's clone" in done.err
    done = lcam(*words, "--per-image", "page/lcam-files/a.csv", "--report", "page")
    assert done.code == 2
    assert "page/lcam-files/a.csv is in a folder that --report replaces" in done.err
    assert (folder / "there.csv").read_text() == (folder / "boxes.csv").read_text() == "mine"


def test_a_run_that_is_stopped_leaves_nothing(folder: Path, lcam: Lcam) -> None:
    assert lcam("explain", "photos", "--method", "gradcam").code == 0
    before = sorted(path.name for path in folder.iterdir())
    for options in (
        EvaluateOptions(per_image=folder / "a.csv", engine=EngineOptions(batch_size=4)),
        EvaluateOptions(per_image=folder / "a.csv", report=folder / "page"),
    ):
        with_network = replace(options, backbone=BackboneOptions("own.py:net"))
        stopped = evaluate_maps("maps.h5", with_network, stop=lambda: True)
        assert stopped.results is None
        assert sorted(path.name for path in folder.iterdir()) == before


def test_the_functions_say_where_it_is(folder: Path, lcam: Lcam) -> None:
    backbone = BackboneOptions("own.py:net", image_size=32)
    options = CompareOptions(methods=("gradcam",), backbone=backbone, per_image="a.csv")
    found = compare_folder("photos", options)
    assert found.per_image == Path("a.csv")
    assert not isinstance(found.per_image, RunPath)
    assert len(lines(folder / "a.csv")) == 20


def test_evaluate_refuses_what_its_result_is_written_to(folder: Path, lcam: Lcam) -> None:
    for option in ("--out", "--labels"):
        done = lcam("evaluate", "--per-image", "a.csv", option, "a.csv", "--format", "csv")
        assert done.code == 2
        assert f"--per-image and {option} name the same file, a.csv" in done.err


@pytest.mark.parametrize("command", ["compare", "evaluate"])
def test_measures_are_listed_without_torch_or_inputs(tmp_path: Path, command: str) -> None:
    program = (
        "import sys; from lcam_cli.__main__ import run; from lcam_cli.cli.app import lcam_app\n"
        "code = run(lcam_app(), sys.argv[1:])\n"
        "assert code == 0 and 'torch' not in sys.modules, code"
    )
    words = [sys.executable, "-c", program, command, "--list-metrics"]
    table = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    listed = subprocess.run(
        [*words, "--format", "json"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    content = json.loads(listed.stdout)
    assert content["schema"] == "lcam-metrics/1"
    by_name = {one["name"]: one for one in content["metrics"]}
    assert set(registry.MEASURES) <= set(by_name)
    assert by_name["ad"]["better"] == "low"
    assert by_name["ad"]["per_nu"] is True
    for one in by_name.values():
        assert one["cost"]
        assert one["source"]
        assert one["name"] in table
        assert one["source"] in table
    assert "\x1b" not in table


def test_a_list_of_measures_has_two_forms(folder: Path, lcam: Lcam) -> None:
    done = lcam("compare", "--list-metrics", "--format", "latex")
    assert done.code == 2
    assert "--list-metrics has no format latex" in done.err


def test_intervals_are_in_what_evaluate_writes(folder: Path, lcam: Lcam) -> None:
    assert lcam("explain", "photos", "--method", "gradcam").code == 0
    words = ("evaluate", "--nu", "50", "--format", "markdown")
    assert " to " not in lcam(*words).out
    assert " to " in lcam(*words, "--intervals").out
    assert lcam(*words, "--intervals", "--out", "result.md").code == 0
    assert (folder / "result.md").read_text().count(" to ") == 6


def test_whole_pixels_are_said(folder: Path, lcam: Lcam) -> None:
    words = ("--keep", "whole", "--report", "report", "--figure", "figure.png")
    done = lcam(*COMPARE, *words)
    assert done.code == 0, done.err
    assert "kept pixels unchanged" in done.out
    assert "<dd>shown whole</dd>" in (folder / "report" / "index.html").read_text("utf-8")
    assert '"keep":"whole"' in (folder / "report" / "lcam-files" / "data.js").read_text("ascii")
