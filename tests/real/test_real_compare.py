"""Methods compared on real photographs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lcam_cli.__main__ import run
from lcam_cli.cli.app import lcam_app

pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_gradient_methods_beat_noise_where_brightness_does_not_count(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        *("compare", real / "photos", "--max-images", 24, "--batch-size", 8, "--nu", 50),
        *("--backbone", "mobilenet_v2", "--weights", real / "mobilenet_v2_imagenet1k_fp16.pt"),
        *("--methods", "gradcam,gradcam++", "--figure", "f.png", "--format", "json"),
    ]
    assert run(lcam_app(), [str(word) for word in words]) == 0
    result = json.loads(capfd.readouterr().out)
    assert result["images"] == 24
    *ours, noise = result["rows"]
    assert noise["method"] == "random"
    assert all(row["nu"]["50"]["ad"] < 0.9 * noise["nu"]["50"]["ad"] for row in ours)
    assert noise["nu"]["50"]["ad_diff_ci95"][0] > 0, "and significantly"
    with Image.open("f.png") as drawn:
        pixels = np.asarray(drawn.convert("L"), np.float32)
    assert (pixels < 250).mean() > 0.65, (
        "eight images across, four down, and narrow gaps with numbers"
    )


def test_tiled_maps_score_as_those_of_another_library(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Those of another library's Grad-CAM, scored by the functions of the paper's authors."""
    monkeypatch.chdir(tmp_path)
    words = [
        *("compare", real / "val", "--nu", "100,50,15", "--no-align", "--no-floor"),
        *("--backbone", "mobilenet_v2", "--weights", real / "mobilenet_v2_imagenet1k_fp16.pt"),
        *("--methods", "gradcam", "--format", "json"),
    ]
    assert run(lcam_app(), [str(word) for word in words]) == 0
    (row,) = json.loads(capfd.readouterr().out)["rows"]
    found = {nu: (scores["ad"], scores["ic"]) for nu, scores in row["nu"].items()}
    expected = {"100": (44.27, 16.77), "50": (62.42, 9.54), "15": (96.34, 0.31)}
    for nu, values in expected.items():
        # One image of the 650 is 0.15 points of IC.
        assert found[nu] == pytest.approx(values, abs=0.2), nu
