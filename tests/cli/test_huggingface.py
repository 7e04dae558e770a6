"""Hugging Face's folders through the whole job, by the command line."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.cli import job
from tests.cli.job import Lcam
from tests.networks.hugging_face import edit_json, write_folder

pytest.importorskip("transformers")

ONE_PASS = "gradcam,gradcam++,xgradcam,layercam,smoothgradcam++,integrated-gradcam,ablationcam"
MANY_PASSES = "scorecam,groupcam,sidu,rise"

lcam = job.lcam


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    job.begin(tmp_path, monkeypatch, "", 4)
    return tmp_path


def test_a_folder_explains_and_its_maps_are_scored(folder: Path, lcam: Lcam) -> None:
    write_folder(folder / "mine", "deit-distilled")
    names = {str(i): name for i, name in enumerate(("ant", "bee", "cat", "dog", "eel"))}
    edit_json(folder / "mine" / "config.json", id2label=names, label2id=None)
    edit_json(folder / "mine" / "config.json", problem_type="multi_label_classification")
    done = lcam("explain", "photos", "--backbone", "mine", "--method", "gradcam")
    assert done.code == 0, done.err
    with h5py.File("maps.h5") as file:
        assert file.attrs["backbone"] == "mine"
        assert file.attrs["activation"] == "sigmoid"
        assert file.attrs["weights"].startswith("sha256:")
        assert set(file["class_name"].asstr()) <= set(names.values())
        assert file["saliency"].shape == (4, 32, 32)
        assert (np.ptp(file["cam"][:], axis=(1, 2)) > 0).all()
    # Not code of the user's: the file is enough to load it again.
    assert lcam("evaluate", "--nu", "50").code == 0


def test_maps_of_a_relative_folder_are_found_from_elsewhere(
    folder: Path, lcam: Lcam, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(folder / "mine", "resnet")
    for name in ("mine", "./mine/"):
        done = lcam(
            *("explain", "photos", "--backbone", name, "--method", "gradcam"),
            *("--out", "maps.h5", "--overwrite"),
        )
        assert done.code == 0, done.err
        (folder / "elsewhere").mkdir(exist_ok=True)
        with monkeypatch.context() as there:
            there.chdir(folder / "elsewhere")
            done = lcam("evaluate", "../maps.h5", "--nu", "50")
            assert done.code == 0, done.err


def test_a_backbone_named_by_another_path_is_the_same(
    folder: Path, lcam: Lcam, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(folder / "mine", "resnet")
    (folder / "net.py").write_text("from tests.tiny import tiny_network as build\n")
    (folder / "elsewhere").mkdir()
    for name in ("mine", "net.py:build"):
        done = lcam(
            *("explain", "photos", "--backbone", name, "--weights", "none", "--method", "gradcam"),
            *("--out", "maps.h5", "--overwrite", "--image-size", "32"),
        )
        assert done.code == 0, done.err
        with monkeypatch.context() as there:
            there.chdir(folder / "elsewhere")
            done = lcam("evaluate", "../maps.h5", "--nu", "50", "--backbone", f"../{name}")
            assert done.code == 0, done.err
            done = lcam("evaluate", "../maps.h5", "--nu", "50", "--backbone", "../other")
            assert f"was made with backbone {name}, not ../other" in done.err


def test_refusals_are_one_line_and_no_internal_error(folder: Path, lcam: Lcam) -> None:
    write_folder(folder / "mine", "vit")
    edit_json(folder / "mine" / "config.json", auto_map={"AutoConfig": "custom_code.Config"})
    done = lcam("explain", "photos", "--backbone", "mine", "--method", "gradcam")
    assert done.code == 2
    first, *rest = done.err.splitlines()
    assert "mine/config.json refused: it asks for its own code" in first
    assert len(rest) == 1
    done = lcam("explain", "photos", "--backbone", "hf/nowhere/at/all", "--method", "gradcam")
    assert done.code == 2
    assert "there is no folder nowhere/at/all" in done.err


@pytest.mark.parametrize("kind", ["vit", "swin", "convnext"])
def test_methods_that_take_one_pass_or_few_run(folder: Path, lcam: Lcam, kind: str) -> None:
    write_folder(folder / "mine", kind)
    line = ("compare", "photos", "--backbone", "mine", "--nu", "50", "--format", "json")
    done = lcam(*line, "--methods", ONE_PASS)
    assert done.code == 0, done.err
    rows = {row["method"] for row in json.loads(done.out)["rows"]}
    assert rows == {*ONE_PASS.split(","), "random"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dinov2-registers", "beit", "resnet", "mobilenet-v2", "clip"])
def test_all_methods_run(folder: Path, lcam: Lcam, kind: str) -> None:
    write_folder(folder / "mine", kind)
    line = ("compare", "photos", "--backbone", "mine", "--nu", "50", "--format", "json")
    done = lcam(*line, "--methods", f"{ONE_PASS},{MANY_PASSES}", "--rise-masks", "20")
    assert done.code == 0, done.err
    rows = {row["method"] for row in json.loads(done.out)["rows"]}
    assert rows == {*ONE_PASS.split(","), *MANY_PASSES.split(","), "random"}


@pytest.mark.parametrize(("kind", "mode"), [("dinov2-registers", "img"), ("resnet", "fm")])
def test_attentions_are_trained(folder: Path, lcam: Lcam, kind: str, mode: str) -> None:
    write_folder(folder / "mine", kind)
    line = ("train", "photos", "--backbone", "mine", "--mode", mode)
    done = lcam(*line, "--epochs", "1", "--batch-size", "4")
    assert done.code == 0, done.err
    assert lcam("explain", "photos").code == 0
    with h5py.File("maps.h5") as file:
        assert file.attrs["backbone"] == "mine"
        assert (np.ptp(file["cam"][:], axis=(1, 2)) > 0).all()
