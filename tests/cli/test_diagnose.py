"""``lcam diagnose`` through the real parser: on the tiny network, and on the demo's classifier."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lcam_cli.demo.pictures import CLASSES, PHOTOS_SEED, write_misplaced, write_pictures
from lcam_cli.measures import diagnose as module
from tests import warm
from tests.cli import job
from tests.cli.job import Ended, Lcam
from tests.conftest import ROOT
from tests.tiny import write_pictures as write_tiny

OWN = """
from tests.tiny import tiny_network
def net():
    return tiny_network()
"""
SETTINGS = """
[diagnose]
backbone = "own.py:net"
image-size = 32
batch-size = 4
method = "gradcam"
"""


command = job.lcam


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four classes in four folders, three images each; the network is right on some."""
    job.begin(tmp_path, monkeypatch, OWN, 0)
    (tmp_path / "lcam.toml").write_text(SETTINGS)
    for c in range(4):
        write_tiny(tmp_path / "photos" / str(c), 3, seed=c)
    return tmp_path


@pytest.fixture
def lcam(command: Lcam) -> Lcam:
    return partial(command, "diagnose")


def as_json(done: Ended) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(done.out)
    return content


def test_every_misclassified_picture_is_in_exactly_one_group(folder: Path, lcam: Lcam) -> None:
    done = lcam("photos", "--labels", "folders", "--format", "json")
    assert done.code == 0, done.err
    found = as_json(done)
    assert found["images"] == 12
    assert 0 < found["misclassified"] == len(found["pictures"])
    assert sum(group["pictures"] for group in found["groups"].values()) == found["misclassified"]
    paths = [picture["path"] for picture in found["pictures"]]
    assert len(set(paths)) == len(paths)
    for picture in found["pictures"]:
        assert picture["path"].startswith(f"{picture['true']}/")
        assert picture["predicted"] != picture["true"]
    lines = list(
        csv.DictReader(io.StringIO(lcam("photos", "--labels", "folders", "--format", "csv").out))
    )
    assert [line["path"] for line in lines] == paths


def test_labels_from_a_file_say_the_same(folder: Path, lcam: Lcam) -> None:
    by_folder = as_json(lcam("photos", "--labels", "folders", "--format", "json"))
    lines = [
        f"{p.parent.name}/{p.name} {p.parent.name}" for p in (folder / "photos").rglob("*.jpg")
    ]
    (folder / "labels.txt").write_text("\n".join(lines[1:]))
    done = lcam("photos", "--labels", "labels.txt", "--format", "json")
    assert done.code == 0
    assert "1 images have no label in labels.txt" in done.err
    found = as_json(done)
    assert (found["images"], found["unlabelled"]) == (11, 1)
    left_out = lines[0].partition(" ")[0]
    assert found["pictures"] == [p for p in by_folder["pictures"] if p["path"] != left_out]


def test_a_class_folder_by_itself_is_its_label(folder: Path, lcam: Lcam) -> None:
    found = as_json(lcam(folder / "photos" / "2", "--labels", "folders", "--format", "json"))
    assert found["images"] == 3
    assert {picture["true"] for picture in found["pictures"]} <= {"2"}


def test_thresholds_move_pictures_between_groups(folder: Path, lcam: Lcam) -> None:
    words = ("photos", "--labels", "folders", "--format", "json")
    everything = as_json(lcam(*words))["misclassified"]
    related = as_json(lcam(*words, "--same-region", "0", "--evidence", "0"))["groups"]
    assert related["related"]["pictures"] == everything
    bias = as_json(lcam(*words, "--evidence", "1", "--same-region", "1"))
    assert bias["rules"] == {"nu": 25.0, "same_region": 1.0, "evidence": 1.0}
    assert bias["groups"]["related"]["pictures"] == 0


def test_figure_report_and_file(folder: Path, lcam: Lcam) -> None:
    outputs = ("--figure", "f.png", "--report", "page", "--out", "d.md")
    words = ("photos", "--labels", "folders", *outputs)
    done = lcam(*words)
    assert done.code == 0, done.err
    assert done.out == ""
    text = (folder / "page" / "index.html").read_text()
    count = len(list((folder / "page" / "lcam-files" / "maps").iterdir()))
    assert f"{count} of 12 images misclassified" in text
    assert (folder / "d.md").read_text().startswith(f"{count} of 12 images misclassified")
    assert (folder / "f.png").stat().st_size > 10_000
    for k, told in ((0, "f.png exists"), (2, "--report page is not empty"), (4, "d.md exists")):
        again = lcam("photos", "--labels", "folders", *outputs[k : k + 2])
        assert again.code == 2
        assert told in again.err
    assert lcam(*words, "--overwrite").code == 0


def test_no_mistake_is_told_and_fine(folder: Path, lcam: Lcam) -> None:
    found = as_json(lcam("photos", "--labels", "folders", "--format", "json"))
    for picture in found["pictures"]:
        (folder / "photos" / picture["path"]).unlink()
    right = lcam("photos", "--labels", "folders", "--figure", "f.png")
    assert right.code == 0, right.err
    assert "no misclassified image among" in right.out
    assert "nothing to draw" in right.err
    assert not (folder / "f.png").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("photos",), "no labels"),
        (("--labels", "folders"), "no images to diagnose"),
        (("photos", "--labels", "missing.txt"), "cannot read labels from missing.txt"),
        (("photos", "--labels", "folders", "--nu", "0"), "--nu 0 is not above 0"),
        (("photos", "--labels", "folders", "--nu", "nan"), "--nu nan is not above 0"),
        (("photos", "--labels", "folders", "--figure", "f.jpg"), "does not end in .png"),
        (("photos", "--labels", "folders", "--method", "gradcm"), "unknown method 'gradcm'"),
    ],
)
def test_wrong_usage_is_one_line(
    folder: Path, lcam: Lcam, words: tuple[str, ...], told: str
) -> None:
    done = lcam(*words)
    assert done.code == 2
    settings, first, *_ = done.err.splitlines()
    assert settings.startswith("from lcam.toml: ")
    assert first.startswith("error: ")
    assert told in first


def test_unknown_labels_are_named_in_one_line(folder: Path, lcam: Lcam) -> None:
    for old, new in (("1", "owl"), ("3", "newt")):
        (folder / "photos" / old).rename(folder / "photos" / new)
    done = lcam("photos", "--labels", "folders")
    assert done.code == 2
    first = done.err.splitlines()[1]
    assert "there is no class named" in first
    assert "'owl'" in first
    assert "'newt'" in first
    assert "(…/newt/000.jpg)" in first or "(…/owl/000.jpg)" in first
    assert "`--labels folders` needs …/CLASS/image.jpg; otherwise use --labels FILE" in done.err


def test_bad_pictures_are_skipped(folder: Path, lcam: Lcam) -> None:
    (folder / "photos" / "0" / "000.jpg").write_text("no picture")
    done = lcam("photos", "--labels", "folders", "--format", "json")
    assert done.code == 3
    assert done.err.count("skipped photos/0/000.jpg") == 1
    assert (as_json(done)["images"], as_json(done)["skipped"]) == (11, 1)
    assert lcam("photos", "--labels", "folders", "--strict").code == 2


def test_an_interrupt_leaves_no_result(
    folder: Path, lcam: Lcam, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = module.gather_evidence

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(module, "gather_evidence", original)  # a second signal kills
        os.kill(os.getpid(), signal.SIGINT)
        return original(*args, **kwargs)

    monkeypatch.setattr(module, "gather_evidence", interrupted)
    done = lcam("photos", "--labels", "folders", "--report", "page", "--out", "d.json")
    assert done.code == 130
    assert "interrupted: no result" in done.err
    assert not (folder / "d.json").exists()
    assert not (folder / "page" / "index.html").exists(), "half a page must not look like one"


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys; from lcam_cli.__main__ import run; from lcam_cli.cli.app import lcam_app; "
        "run(lcam_app(), ['diagnose', '--help']); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0
    assert b"--labels" in done.stdout


def test_a_second_method_is_named_chosen_or_left_out(folder: Path, lcam: Lcam) -> None:
    words = ("photos", "--labels", "folders", "--format", "json")
    by_default = as_json(lcam(*words))
    assert by_default["second_method"]["method"] == "gradcam++", "the first is Grad-CAM"
    moved = [p for p in by_default["pictures"] if p["second_group"] != p["group"]]
    assert by_default["second_method"]["other_group"] == len(moved)
    none = as_json(lcam(*words, "--second-method", "none"))
    assert "second_method" not in none
    assert all("second_group" not in p for p in none["pictures"])
    assert none["groups"] == by_default["groups"]
    done = lcam(*words, "--second-method", "random", "--same-region", "0.2", "--evidence", "0")
    assert as_json(done)["second_method"]["method"] == "random"
    assert "into another group than gradcam: the groups depend on the method" in done.err
    wrong = lcam(*words, "--second-method", "gradcm")
    assert wrong.code == 2
    assert "unknown method 'gradcm'" in wrong.err


@pytest.mark.slow
@pytest.mark.parametrize("method", ["cam", "gradcam"])
def test_the_planted_shortcut_is_named_first(tmp_path: Path, method: str) -> None:
    """The real command on the demo's images, without a trained attention."""
    write_pictures(tmp_path / "photos", per_class=3, seed=PHOTOS_SEED)
    write_misplaced(tmp_path / "misplaced", ashore=8, afloat=2)
    words = ["photos", "misplaced", "--labels", "folders", "--format", "json"]
    done = subprocess.run(
        warm.words("diagnose", *words, "--method", method, "--backbone", "lcam-demo"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    first, second = found["classes"][:2]
    assert first["class"] == "boat"
    assert first["suspicion"] > 2 * second["suspicion"] + 0.1
    assert first["groups"]["bias"] >= 4, "boats ashore"
    assert first["lured"] >= 4, "other things on water"
    shown = [p for p in found["pictures"] if "boat" in (p["true"], p["predicted"])]
    assert {p["path"].split("/")[0] for p in shown} == {"misplaced"}
    assert set(CLASSES) >= {p["true"] for p in found["pictures"]}


@pytest.mark.slow
@pytest.mark.real
def test_photographs(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lcam: Lcam
) -> None:
    monkeypatch.chdir(tmp_path)
    names = (real / "photos" / "labels.txt").read_text().splitlines()[:60]
    (tmp_path / "photos").mkdir()
    for line in names:
        name = line.rpartition(" ")[0]
        shutil.copy(real / "photos" / name, tmp_path / "photos" / name)
    weights = real / "mobilenet_v2_imagenet1k_fp16.pt"
    done = lcam(
        *("photos", "--labels", real / "photos" / "labels.txt", "--method", "gradcam"),
        *("--backbone", "mobilenet_v2", "--weights", weights, "--format", "json"),
    )
    assert done.code == 0, done.err
    found = as_json(done)
    assert found["images"] == 60
    assert 0 < found["misclassified"] < 30
    assert sum(group["pictures"] for group in found["groups"].values()) == found["misclassified"]
    assert found["classes"][0]["suspicion"] < 0.25, "one image a class tells little"
