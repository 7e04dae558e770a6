"""``--fit`` from training to explaining: an attention is explained as it was trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import pytest
import torch
from PIL import Image

from lcam_cli import BackboneOptions, EngineOptions, LcamError, TrainOptions, train_attention
from lcam_cli.methods.attention_file import load_attention
from tests.cli import job
from tests.cli.job import Lcam
from tests.runs.test_explain_folder import after

lcam = job.lcam

OWN = ("--backbone", "own.py:net")
NET = (*OWN, "--weights", "none", "--image-size", "32")
FEW = ("--epochs", "2", "--batch-size", "4", "--workers", "1")
TRAIN = ("train", "photos", *NET, *FEW)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    job.begin(tmp_path, monkeypatch, "from tests.tiny import tiny_network as net\n", 6)
    return tmp_path


@pytest.fixture
def squashed(folder: Path, lcam: Lcam) -> Path:
    """A run that was trained on squashed images."""
    done = lcam(*TRAIN, "--fit", "squash", "--out", "runs/squashed")
    assert done.code == 0, done.err
    return folder / "runs" / "squashed"


def fit_of(maps: str, group: str = "/") -> str:
    with h5py.File(maps) as file:
        fit: str = json.loads(file[group].attrs["preprocess"])["fit"]
        return fit


def test_training_sees_the_whole_picture_squashed(folder: Path, lcam: Lcam) -> None:
    """Where the crop is all of the resized square, as a run on images squashed beforehand."""
    same = (*NET, "--resize", "32", *FEW)
    (folder / "small").mkdir()
    for path in sorted((folder / "photos").iterdir()):
        small = Image.open(path).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)
        small.save(folder / "small" / f"{path.stem}.png")
    runs = {
        "here": ("photos", "--fit", "squash"),
        "beforehand": ("small", "--fit", "crop"),
        "cropped": ("photos",),
    }
    W = {}
    for name, words in runs.items():
        done = lcam("train", *words, *same, "--out", f"runs/{name}")
        assert done.code == 0, done.err
        file = load_attention(folder / "runs" / name / "attention.safetensors")
        assert file.settings is not None
        assert file.settings.preprocess.fit == ("squash" if name == "here" else "crop")
        W[name] = file.attention.tensors()["weight"]
    assert torch.equal(W["here"], W["beforehand"])
    assert not torch.equal(W["here"], W["cropped"])


def test_explaining_takes_the_attentions_fit_unless_another_is_typed(
    squashed: Path, lcam: Lcam
) -> None:
    done = lcam("explain", "photos", *OWN)
    assert done.code == 0, done.err
    assert fit_of("maps.h5") == "squash"
    assert "--fit" not in done.err
    assert lcam("evaluate", *OWN, "--nu", "50").code == 0
    typed = lcam("explain", "photos", *OWN, "--fit", "crop", "--out", "crop.h5")
    assert typed.code == 0, typed.err
    assert fit_of("crop.h5") == "crop"
    said = "runs/squashed/attention.safetensors was trained with --fit squash, not crop"
    assert typed.err.count(said) == 1
    assert lcam("evaluate", "crop.h5", *OWN, "--nu", "50").code == 0


def test_compare_and_diagnose_take_it_too(squashed: Path, lcam: Lcam) -> None:
    words = ("compare", "photos", *OWN, "--attention", squashed, "--methods", "cam", "--nu", "50")
    done = lcam(*words, "--out", "rows.h5")
    assert done.code == 0, done.err
    assert fit_of("rows.h5", "cam") == "squash"
    Path("names.txt").write_text("".join(f"{i:03}.jpg 1\n" for i in range(6)))
    words = ("diagnose", "photos", *OWN, "--labels", "names.txt", "--report", "page")
    done = lcam(*words, "--out", "wrong")
    assert done.code in (0, 3), done.err
    assert "--fit" not in done.err


def test_attentions_of_different_fits_are_compared_with_one_that_is_typed(
    squashed: Path, lcam: Lcam
) -> None:
    assert lcam(*TRAIN, "--out", "runs/cropped").code == 0
    words = ("compare", "photos", *OWN, "--attention", squashed, "--attention", "runs/cropped")
    words = (*words, "--methods", "cam", "--nu", "50", "--out", "rows.h5")
    done = lcam(*words)
    assert done.code == 2
    assert "were trained with different --fit: " in done.err
    assert "squashed/attention.safetensors with squash and runs/cropped/" in done.err
    assert "--fit squash or --fit crop" in done.err
    for fit, other in (("crop", "squashed"), ("squash", "cropped")):
        done = lcam(*words, "--fit", fit, "--overwrite")
        assert done.code == 0, done.err
        assert done.err.count("was trained with --fit") == 1
        assert f"{other}/attention.safetensors was trained with --fit" in done.err
        assert fit_of("rows.h5", "cam") == fit


def test_settings_and_variables_name_it(
    folder: Path, lcam: Lcam, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(name: str, *words: str) -> str:
        done = lcam(*TRAIN, "--epochs", "1", "--out", f"runs/{name}", *words)
        assert done.code == 0, done.err
        settings = load_attention(folder / "runs" / name / "attention.safetensors").settings
        assert settings is not None
        return settings.preprocess.fit

    (folder / "lcam.toml").write_text('[train]\nfit = "squash"\n')
    assert trained("file") == "squash"
    monkeypatch.setenv("LCAM_TRAIN_FIT", "crop")
    assert trained("variable") == "crop"
    assert trained("typed", "--fit", "squash") == "squash"


def test_another_fit_is_another_run(folder: Path) -> None:
    options = TrainOptions(
        epochs=2,
        out=Path("runs/stopped"),
        backbone=BackboneOptions("own.py:net", "none", image_size=32, fit="squash"),
        engine=EngineOptions("cpu", batch_size=2, workers=1),
    )
    whole = train_attention("photos", replace(options, out=Path("runs/whole")))
    assert train_attention("photos", options, stop=after(3)).interrupted
    for fit in (None, "crop"):
        cropped = replace(options, backbone=replace(options.backbone, fit=fit), resume=True)  # type: ignore[arg-type]
        with pytest.raises(LcamError, match="a run with other settings or images"):
            train_attention("photos", cropped)
    result = train_attention("photos", replace(options, resume=True))
    assert result.attention.read_bytes() == whole.attention.read_bytes()


def test_pad_goes_from_training_to_every_command(folder: Path, lcam: Lcam) -> None:
    for i, path in enumerate(sorted((folder / "photos").iterdir())):  # wide ones, and tall ones
        picture = Image.open(path).convert("RGB")
        picture.resize((60, 30) if i % 2 else (25, 50)).save(path)
    done = lcam(*TRAIN, "--fit", "pad", "--out", "runs/padded")
    assert done.code == 0, done.err
    file = load_attention(folder / "runs" / "padded" / "attention.safetensors")
    assert file.settings is not None
    assert file.settings.preprocess.fit == "pad"
    done = lcam("explain", "photos", *OWN, "--overlays", "overlays")
    assert done.code == 0, done.err
    assert fit_of("maps.h5") == "pad"
    with h5py.File("maps.h5") as maps:
        boxes = dict(zip(maps["path"].asstr()[:], maps["crop_box"][:].tolist(), strict=True))
    assert boxes["001.jpg"] == [0, -15, 60, 45]
    assert boxes["000.jpg"] == [-12.5, 0, 37.5, 50]
    done = lcam("evaluate", *OWN, "--nu", "50", "--report", "page")
    assert done.code == 0, done.err
    words = ("compare", "photos", *OWN, "--methods", "lcam-img,cam", "--nu", "50")
    done = lcam(*words, "--out", "rows.h5", "--figure", "figure.png", "--report", "pages")
    assert done.code == 0, done.err
    assert fit_of("rows.h5", "cam") == "pad"
    Path("names.txt").write_text("".join(f"{i:03}.jpg 1\n" for i in range(6)))
    words = ("diagnose", "photos", *OWN, "--labels", "names.txt", "--report", "errors")
    done = lcam(*words, "--out", "wrong", "--figure", "wrong.png")
    assert done.code in (0, 3), done.err
