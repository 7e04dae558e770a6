"""Rectangular networks and those of other channels from explain to report, by the real command."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from tests.cli import job
from tests.cli.job import Lcam

lcam = job.lcam

NET = """
import torch
from torch import nn


class Flat(nn.Module):
    '''Takes 180 rows by 320 columns only: its features are flattened.'''

    def __init__(self, channels=3):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(
            nn.Conv2d(channels, 4, 5, stride=4, padding=2), nn.ReLU(),
            nn.Conv2d(4, 6, 5, stride=4, padding=2), nn.ReLU(),
        )
        self.fc = nn.Linear(6 * 12 * 20, 3)

    def forward(self, x):
        return self.fc(self.features(x).flatten(1))


def flat():
    return Flat()


def eleven():
    return Flat(11)
"""
SIZES = [(640, 360), (160, 320), (300, 200), (320, 180)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for label in ("0", "1", "2"):
        (made / label).mkdir()
        for number, size in enumerate(SIZES):
            cells = Image.fromarray(rng.integers(0, 256, (5, 8, 3), np.uint8))
            cells.resize(size, Image.Resampling.BICUBIC).save(made / label / f"{number}.png")
    return made


@pytest.fixture
def folder(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    shutil.copytree(photos, tmp_path / "photos")
    return tmp_path


BACKBONE = ("--backbone", "net.py:flat", "--weights", "none", "--image-size", "180x320")
GRADCAM = ("explain", "photos", "--method", "gradcam", *BACKBONE)


def test_from_explain_to_report(folder: Path, lcam: Lcam) -> None:
    def run(*words: str) -> str:
        done = lcam(*words)
        assert done.code == 0, done.err
        return done.err

    run(*GRADCAM, "--out", "maps.h5", "--overlays", "o", "--no-caption")
    with h5py.File(folder / "maps.h5") as file:
        assert file["saliency"].shape == (12, 180, 320)
        assert file["cam"].shape == (12, 12, 20)
        preprocess = json.loads(file.attrs["preprocess"])
        assert preprocess["image_size"] == [180, 320]
        assert (preprocess["channels"], preprocess["window"]) == (3, "auto")
        boxes = file["crop_box"][:4]
        whole = file["saliency"][:]
    # The crop covers 180×320 times 256/224, and its shape is the network's.
    resize = round(256 * 180 / 224)
    across, down = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    np.testing.assert_allclose(across / down, 320 / 180, rtol=0.01)
    np.testing.assert_allclose(across[0], 640 * 180 / resize, rtol=0.01)
    drawn = sorted((folder / "o").rglob("*.png"))
    assert [Image.open(path).size for path in drawn] == SIZES * 3
    run("evaluate", "maps.h5", "--backbone", "net.py:flat", "--labels", "folders", "--report", "e")
    # Half of it, as a run that was stopped leaves it, and it goes on as it was.
    with h5py.File(folder / "maps.h5", "r+") as file:
        for name in ("saliency", "cam", "path", "class_index", "predicted_index", "class_name",
                     "confidence", "crop_box"):  # fmt: skip
            file[name].resize(6, 0)
        file.attrs["complete"] = False
    run(*GRADCAM, "--out", "maps.h5", "--overlays", "o", "--resume")
    with h5py.File(folder / "maps.h5") as file:
        np.testing.assert_array_equal(file["saliency"][:], whole)
    run(*GRADCAM, "--out", "pngs")
    png = Image.open(next((folder / "pngs" / "maps").rglob("*.png")))
    assert png.size == (320, 180)


@pytest.mark.slow
def test_training_and_everything_that_compares(folder: Path, lcam: Lcam) -> None:
    done = lcam("train", "photos", *BACKBONE, "--epochs", "1", "--out", "run", "--keep-aside", "0")
    assert done.code == 0, done.err
    masks = folder / "masks"
    for path in (folder / "photos").rglob("*.png"):
        target = masks / path.relative_to(folder / "photos")
        target.parent.mkdir(parents=True, exist_ok=True)
        inside = np.zeros(Image.open(path).size[::-1], np.uint8)
        inside[len(inside) // 3 :, inside.shape[1] // 2 :] = 255
        Image.fromarray(inside).save(target)
    done = lcam(
        *("compare", "photos", "--attention", "run", "--backbone", "net.py:flat"),
        *("--methods", "lcam,gradcam,scorecam,groupcam,sidu,sise,rise", "--rise-masks", "8"),
        *("--max-images", "2", "--masks", "masks", "--figure", "f.png", "--report", "report"),
        *("--metrics", "ad,insertion,deletion,road,coherency,sensitivity,pointing,iou,energy"),
    )
    # Exit code 3 says that a measure is not defined for some map, e.g. one of zeros.
    assert done.code in (0, 3), done.err
    data = (folder / "report" / "lcam-files" / "data.js").read_text()
    assert '"height": 144, "width": 256' in data or '"height":144,"width":256' in data
    picture = next((folder / "report" / "lcam-files" / "images").glob("*.jpg"))
    assert Image.open(picture).size == (256, 144)
    done = lcam(
        *("diagnose", "photos", *BACKBONE, "--labels", "folders", "--method", "gradcam"),
        *("--report", "diagnosis", "--figure", "d.png"),
    )
    assert done.code == 0, done.err
    image = next((folder / "diagnosis" / "lcam-files" / "images").glob("*.jpg"))
    assert Image.open(image).size == (256, 144)
    assert (
        '"height":144,"width":256' in (folder / "diagnosis" / "lcam-files" / "data.js").read_text()
    )
    done = lcam(
        *("sanity", "photos", *BACKBONE, "--methods", "gradcam", "--max-images", "2"),
        *("--figure", "s.png"),
    )
    assert done.code == 0, done.err


def test_eleven_channels_from_arrays_to_report(folder: Path, lcam: Lcam) -> None:
    rng = np.random.default_rng(0)
    for number in range(3):
        cells = rng.integers(0, 256, (200, 340, 11), np.uint8)
        np.save(folder / f"{number}.npy", cells)
    np.save(folder / "wrong.npy", np.zeros((200, 340, 4), np.uint8))
    arrays = ("0.npy", "1.npy", "2.npy")
    network = ("--backbone", "net.py:eleven", "--weights", "none", "--image-size", "180x320")
    words = ("--method", "gradcam", "--out", "maps.h5", "--overlays", "overlays")
    done = lcam("explain", *arrays, "wrong.npy", *network, *words)
    assert done.code == 3
    assert "net.py:eleven expects 11 channels" in done.err
    assert re.search(r"wrong\.npy: .*4 channels.*11", done.err)
    with h5py.File(folder / "maps.h5") as file:
        assert file["saliency"].shape == (3, 180, 320)
        assert json.loads(file.attrs["preprocess"])["channels"] == 11
    first_three = np.load(folder / "0.npy")[..., :3]
    overlay = np.asarray(Image.open(folder / "overlays" / "0.npy.0.png").convert("RGB"))
    overlay = overlay[: len(first_three)]  # the class and its score stand below
    assert overlay.shape == first_three.shape
    done = lcam("evaluate", "maps.h5", "--backbone", "net.py:eleven", "--report", "report")
    assert done.code == 0, done.err
    assert "expects 11" not in done.err, "the file includes its own preprocessing"
    for words in (("--mean", "0.4"), ("--channels", "3"), ("--window", "0,100")):
        done = lcam("explain", *arrays, *network, *words, "--method", "gradcam", "--out", "maps.h5",
                    "--resume")  # fmt: skip
        assert done.code == 2
    done = lcam("train", *arrays, *network, "--epochs", "1", "--out", "run")
    assert done.code == 0, done.err
    done = lcam("explain", "0.npy", "--attention", "run", "--backbone", "net.py:eleven",
                "--out", "trained.h5", "--window", "0,100")  # fmt: skip
    assert "includes its own preprocessing" in done.err


def test_a_settings_file_says_sizes_and_channels(folder: Path, lcam: Lcam) -> None:
    (folder / "lcam.toml").write_text(
        '[explain]\nbackbone = "net.py:flat"\nweights = "none"\nmethod = "gradcam"\n'
        "image-size = [180, 320]\nmean = 0.5\nstd = [0.25, 0.5, 0.25]\nwindow = [0, 128]\n"
        "channels = 3\n"
    )
    done = lcam("explain", "photos/0", "--out", "maps.h5")
    assert done.code == 0, done.err
    with h5py.File("maps.h5") as file:
        preprocess = json.loads(file.attrs["preprocess"])
    assert preprocess["image_size"] == [180, 320]
    assert (preprocess["mean"], preprocess["std"]) == ([0.5] * 3, [0.25, 0.5, 0.25])
    assert preprocess["window"] == [0, 128]


def test_all_commands_see_the_same(folder: Path, lcam: Lcam) -> None:
    seen = (*BACKBONE, "--mean", "0.4", "--std", "0.3", "--window", "20,200")
    assert lcam("explain", "photos", "--method", "gradcam", *seen, "--out", "maps.h5").code == 0
    line = ("compare", "photos", "--methods", "gradcam,layercam", *seen, "--nu", "50")
    assert lcam(*line, "--out", "compared.h5").code == 0
    done = lcam("train", "photos", *seen, "--epochs", "1", "--out", "run", "--keep-aside", "0")
    assert done.code == 0
    line = ("explain", "photos", "--attention", "run", "--backbone", "net.py:flat")
    assert lcam(*line, "--out", "trained.h5").code == 0
    with h5py.File("maps.h5") as one, h5py.File("compared.h5") as two, h5py.File("trained.h5") as t:
        np.testing.assert_array_equal(one["saliency"][:], two["gradcam/saliency"][:])
        for other in (two["gradcam"], t):
            np.testing.assert_allclose(one["confidence"][:], other["confidence"][:], atol=1e-6)
            assert json.loads(other.attrs["preprocess"]) == json.loads(one.attrs["preprocess"])
    lines = [
        lcam(*words, "--nu", "50", "--format", "json").out
        for words in (
            ("evaluate", "maps.h5", "--backbone", "net.py:flat"),
            ("compare", "photos", "--methods", "gradcam", *seen),
        )
    ]
    drops = [json.loads(out)["rows"][0]["nu"]["50"]["ad"] for out in lines]
    assert drops[0] == pytest.approx(drops[1], rel=0.02)  # a file's maps are float16


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--image-size", "180x"), "'180x' is not N or HxW"),
        (("--image-size", "0x5"), "is not N or HxW"),
        (("--window", "5,5"), "LOW must be below HIGH"),
        (("--window", "nan,1"), "both finite"),
        (("--window", "7"), "is not auto or two values"),
        (("--mean", "a"), "is not a number, or one per channel"),
        (("--mean", "0.1,0.2"), "--mean has 2 numbers, but net.py:flat expects 3 channels"),
        (("--channels", "4"), "net.py:flat expects 3 channels, not 4"),
        (("--std", "0"), "above 0"),
    ],
)
def test_what_cannot_be_is_one_line(
    folder: Path, lcam: Lcam, words: tuple[str, str], said: str
) -> None:
    size = () if words[0] == "--image-size" else BACKBONE[4:]
    done = lcam("explain", "photos", "--method", "gradcam", *BACKBONE[:4], *size, *words)
    assert done.code == 2
    assert said in " ".join(done.err.split())
    assert "internal" not in done.err
