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
    assert (pixels < 250).mean() > 0.8, "eight pictures across, four down, and narrow gaps"
