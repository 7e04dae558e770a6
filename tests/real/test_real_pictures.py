"""The main job on real photographs with real ImageNet weights."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from lcam_cli.__main__ import run
from lcam_cli.cli.app import lcam_app

pytestmark = [pytest.mark.real, pytest.mark.slow]


def _lcam(*words: object) -> int:
    return run(lcam_app(), [str(w) for w in words])


def _backbone(real: Path) -> tuple[str, ...]:
    weights = real / "mobilenet_v2_imagenet1k_fp16.pt"
    return ("--backbone", "mobilenet_v2", "--weights", str(weights))


def test_train_explain_evaluate(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A short run: it must beat noise by far, and find the right classes."""
    monkeypatch.chdir(tmp_path)
    photos = sorted((real / "photos").glob("*.JPEG"))[::5]
    assert _lcam("train", real / "train", *_backbone(real), "--epochs", 1, "--max-images", 96) == 0
    assert _lcam("explain", *photos, "--overlays", "overlays") == 0
    capfd.readouterr()
    labels = real / "photos" / "labels.txt"
    assert _lcam("evaluate", "--nu", "50", "--labels", labels, "--format", "json") == 0
    result = json.loads(capfd.readouterr().out)
    assert result["images"] == len(photos) == 40
    ours, floor = (row["nu"]["50"]["ad"] for row in result["rows"])
    assert ours < 0.9 * floor
    assert result["accuracy"]["top1"] > 70
    drawn = sorted(Path("overlays").rglob("*.png"))
    assert len(drawn) == 40
    with Image.open(photos[0]) as original, Image.open(drawn[0]) as overlay:
        assert overlay.width == original.width
        assert overlay.height > original.height, "the class and its score stand below"


@pytest.mark.parametrize("mode", ["fm", "img"])
@pytest.mark.parametrize("recipe", ["paper", "reference"])
def test_the_papers_recipes_take_a_few_steps(
    real: Path, tmp_path: Path, mode: str, recipe: str
) -> None:
    words = ("--mode", mode, "--recipe", recipe, "--epochs", 1, "--batch-size", 8)
    assert (
        _lcam(
            "train", real / "train", *_backbone(real), *words, "--max-images", 16, "--out", tmp_path
        )
        == 0
    )
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("backbone", "layer", "mode", "shape"),
    [
        ("vgg16", "features.29", "img", (14, 14)),
        ("vgg16", "features.30", "fm", (7, 7)),
        ("resnet50", "layer4", "img", (7, 7)),
    ],
)
def test_the_papers_networks(
    real: Path, tmp_path: Path, backbone: str, layer: str, mode: str, shape: tuple[int, int]
) -> None:
    words = ("--backbone", backbone, "--weights", "none", "--layer", layer, "--mode", mode)
    steps = ("--recipe", "paper", "--max-images", 2, "--batch-size", 2, "--epochs", 1)
    assert _lcam("train", real / "train", *words, *steps, "--out", tmp_path / "run") == 0
    photos = sorted((real / "photos").glob("*.JPEG"))[:2]
    out = tmp_path / "maps.h5"
    assert _lcam("explain", *photos, "--attention", tmp_path / "run", "--out", out) == 0
    with h5py.File(out) as file:
        assert file["cam"].shape == (2, *shape)
        assert file["saliency"].shape == (2, 224, 224)
        assert np.isfinite(file["cam"][:]).all()
