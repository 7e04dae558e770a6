"""Transformers, timm's networks and classifiers of several labels through the whole job."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors import safe_open

from lcam_cli.images.decoder import read_whole
from lcam_cli.images.preprocess import Preprocess, center_view
from tests import warm
from tests.cli import job
from tests.cli.job import Lcam
from tests.programs import export
from tests.tiny import tiny_network
from tests.transformers import tiny_vit

OWN = """
from tests.engine.test_tokens import _Registers
from tests.transformers import tiny_swin as swin, tiny_vit as vit
from tests.tiny import tiny_network
import torch

def one():
    return vit(1)

def exported():
    return torch.export.unflatten(torch.export.load("model.pt2"))

def registers():
    torch.manual_seed(1)
    return _Registers()
"""
# The image's side, and what one epoch over a few images takes.
SMALL = ("--image-size", "32", "--epochs", "1", "--batch-size", "4")


lcam = job.lcam


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    job.begin(tmp_path, monkeypatch, OWN, 5)
    return tmp_path


@pytest.mark.slow
def test_the_whole_job_on_a_vit_by_the_real_command(folder: Path) -> None:
    (folder / "lcam.toml").write_text('[explain]\nbackbone="own.py:vit"\n')
    for line in (
        "train photos --backbone own.py:vit --mode img " + " ".join(SMALL),
        "explain photos --out maps.h5",
        "evaluate maps.h5 --backbone own.py:vit --nu 50 --format json",
    ):
        done = subprocess.run(
            warm.words(*line.split()),
            cwd=folder,
            capture_output=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
    rows = {row["method"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows.keys() == {"lcam-img", "random"}
    with h5py.File(folder / "maps.h5") as file:
        assert file.attrs["layer"] == "encoder.layers.encoder_layer_2.ln_1"
        assert (file.attrs["activation"], file.attrs["grid"]) == ("softmax", "")
        assert file["cam"].shape == (5, 4, 4)
        assert file["saliency"].shape == (5, 32, 32)


@pytest.mark.parametrize("network", ["vit", "swin"])
@pytest.mark.parametrize("mode", ["img", "fm"])
def test_both_modes_train_on_tokens(folder: Path, lcam: Lcam, network: str, mode: str) -> None:
    name = f"own.py:{network}"
    assert lcam("train", "photos", "--backbone", name, "--mode", mode, *SMALL).code == 0
    done = lcam("explain", "photos", "--backbone", name)
    assert done.code == 0, done.err
    with h5py.File("maps.h5") as file:
        assert file.attrs["method"] == f"lcam-{mode}"
        assert (np.ptp(file["cam"][:], axis=(1, 2)) > 0).all()


@pytest.mark.slow
def test_compare_runs_all_methods_on_a_vit(folder: Path, lcam: Lcam) -> None:
    done = lcam(
        *("compare", "photos", "--backbone", "own.py:vit", "--image-size", "32", "--nu", "50"),
        *("--methods", "gradcam,gradcam++,scorecam,rise", "--rise-masks", "20"),
        *("--metrics", "insertion,deletion", "--format", "json"),
    )
    assert done.code == 0, done.err
    rows = {row["method"] for row in json.loads(done.out)["rows"]}
    assert rows == {"gradcam", "gradcam++", "scorecam", "rise", "random"}


def test_sigmoid_is_remembered_from_training_to_evaluation(folder: Path, lcam: Lcam) -> None:
    own = ("--backbone", "own.py:one")
    refused = lcam("train", "photos", *own, *SMALL)
    assert refused.code == 2
    assert "--activation sigmoid" in refused.err
    trained = lcam("train", "photos", *own, *SMALL, "--activation", "sigmoid")
    assert trained.code == 0, trained.err
    with safe_open(f"{trained.out.strip()}/attention.safetensors", "pt") as file:
        assert json.loads(file.metadata()["backbone"])["activation"] == "sigmoid"
    assert lcam("explain", "photos", *own).code == 0
    with h5py.File("maps.h5") as file:
        assert file.attrs["activation"] == "sigmoid"
        told = file["confidence"][:]
        assert set(file["class_index"][:]) == {0}
    network, size = tiny_vit(1).eval(), Preprocess(image_size=32, resize=37)
    for path, confidence in zip(sorted(Path("photos").iterdir()), told, strict=True):
        pixels = center_view(read_whole(str(path), 10**6), size)[0]
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (size.mean, size.std))
        z = float(network((x - mean) / std).detach())
        assert confidence == pytest.approx(1 / (1 + np.exp(-z)), rel=1e-4)
    scored = lcam("evaluate", *own, "--format", "json")
    assert scored.code == 0, scored.err
    other = lcam("evaluate", *own, "--activation", "softmax")
    assert other.code == 2
    assert "maps.h5 was made with activation sigmoid, not softmax" in other.err


def test_a_file_without_an_activation_is_softmax(folder: Path, lcam: Lcam) -> None:
    own = ("--backbone", "own.py:vit")
    lcam("explain", "photos", *own, "--image-size", "32", "--method", "gradcam")
    with h5py.File("maps.h5", "r+") as file:
        del file.attrs["activation"], file.attrs["grid"]
    assert lcam("evaluate", *own, "--activation", "softmax").code == 0
    with h5py.File("maps.h5", "r+") as file:
        file.attrs["activation"] = "tanh"
    done = lcam("evaluate", *own)
    assert done.code == 2
    assert "unknown activation 'tanh'" in done.err


def test_a_folder_of_pngs_begun_before_activations_goes_on(folder: Path, lcam: Lcam) -> None:
    line = ("explain", "photos", "--backbone", "own.py:vit", "--image-size", "32")
    line = (*line, "--method", "gradcam", "--out", "pngs")
    assert lcam(*line).code == 0
    told = Path("pngs/maps/info.json")
    info = json.loads(told.read_text())
    assert (info.pop("activation"), info.pop("grid")) == ("softmax", "")
    told.write_text(json.dumps(info | {"complete": False}) + "\n")
    assert lcam(*line, "--resume").code == 0
    told.write_text(json.dumps(info | {"complete": False}) + "\n")
    done = lcam(*line, "--resume", "--activation", "sigmoid")
    assert done.code == 2
    assert "activation is 'softmax', not 'sigmoid'" in done.err


def test_a_grid_is_asked_for_and_remembered(folder: Path, lcam: Lcam) -> None:
    own = ("--backbone", "own.py:registers")
    asked = lcam("train", "photos", *own, *SMALL)
    assert asked.code == 2
    assert "which of the 19 tokens of mix" in asked.err
    assert "--layer NAME --grid PxQ" in asked.err
    grid = ("--layer", "mix", "--grid", "4x4")
    assert lcam("train", "photos", *own, *SMALL, *grid).code == 0
    assert lcam("explain", "photos", *own).code == 0
    with h5py.File("maps.h5") as file:
        assert file.attrs["grid"] == "4x4"
        assert file["cam"].shape == (5, 4, 4)
    assert lcam("evaluate", *own).code == 0
    other = lcam("evaluate", *own, "--grid", "2x8")
    assert other.code == 2
    assert "made with grid 4x4, not 2x8" in other.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--grid", "4by4"), "--grid '4by4' is not PxQ"),
        (("--grid", "5x5"), "patches"),
        (("--activation", "tanh"), "tanh"),
        (("--image-size", "48"), "Wrong image height"),
    ],
)
def test_what_does_not_fit_is_one_error(
    folder: Path, lcam: Lcam, words: tuple[str, ...], told: str
) -> None:
    line = ["explain", "photos", "--backbone", "own.py:vit", "--method", "gradcam"]
    done = lcam(*line, "--image-size", "32", *words)
    assert done.code == 2
    assert told in done.err
    assert "Traceback" not in done.err
    assert len(done.err.strip().splitlines()) <= 3


@pytest.mark.slow
def test_an_exported_program_gives_the_networks_maps_and_is_found_again(
    folder: Path, lcam: Lcam
) -> None:
    export(tiny_network(), Path("model.pt2"))
    line = ("explain", "photos", "--method", "gradcam", "--image-size", "32", "--backbone")
    maps = {}
    for name in ("model.pt2", "own.py:exported", "own.py:tiny_network"):
        out = f"{len(maps)}.h5"
        done = lcam(*line, name, "--layer", "3", "--out", out)
        assert done.code == 0, done.err
        with h5py.File(out) as file:
            maps[name] = file["cam"][:]
    for name in ("model.pt2", "own.py:exported"):
        assert maps[name] == pytest.approx(maps["own.py:tiny_network"], abs=1e-5)
    assert lcam("evaluate", "0.h5", "--nu", "50").code == 0
    Path("model.pt2").rename("moved.pt2")
    gone = lcam("evaluate", "0.h5", "--nu", "50")
    assert gone.code == 2
    assert "no longer at" in gone.err
    assert lcam("evaluate", "0.h5", "--nu", "50", "--weights", "moved.pt2").code == 0
    other = lcam("evaluate", "0.h5", "--nu", "50", "--weights", "none")
    assert other.code == 2
    assert "includes its own weights" in other.err


@pytest.mark.parametrize("mode", ["img", "fm"])
def test_both_modes_train_on_an_exported_program(folder: Path, lcam: Lcam, mode: str) -> None:
    export(tiny_network(), Path("model.pt2"), batch=1, dynamic=False)
    line = ("train", "photos", "--backbone", "model.pt2", "--mode", mode)
    done = lcam(*line, "--epochs", "1", "--batch-size", "4")
    assert done.code == 0, done.err
    assert lcam("explain", "photos").code == 0
    with h5py.File("maps.h5") as file:
        assert file.attrs["backbone"] == "model.pt2"
        assert (np.ptp(file["cam"][:], axis=(1, 2)) > 0).all()


def test_a_timm_network_explains(folder: Path, lcam: Lcam) -> None:
    pytest.importorskip("timm")
    line = ("photos", "--backbone", "timm/test_vit", "--weights", "none", "--method", "gradcam")
    done = lcam("explain", *line)
    assert done.code == 0, done.err
    # Not code of the user's: the file is enough to load it again.
    assert lcam("evaluate", "--nu", "50").code == 0
