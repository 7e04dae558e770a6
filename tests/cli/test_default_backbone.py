"""``backbone`` in ``[defaults]`` of lcam.toml, and maps of another classifier."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli import job

lcam = job.lcam


@pytest.mark.parametrize("backbone", ["lcam-demo", "own.py:net"])
def test_maps_are_evaluated_with_the_classifier_that_made_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lcam: job.Lcam, backbone: str
) -> None:
    job.begin(tmp_path, monkeypatch, "from tests.tiny import tiny_network as net\n", 2)
    settings = '[defaults]\nbackbone = "{}"\nworkers = 1\n'
    Path("lcam.toml").write_text(settings.format(backbone))
    done = lcam("explain", "photos", "--method", "gradcam", "--image-size", "32")
    assert done.code == 0, done.err
    other = "resnet18" if backbone == "lcam-demo" else backbone  # code must be named
    Path("lcam.toml").write_text(settings.format(other))
    done = lcam("evaluate", "--nu", "50")
    assert done.code == 0, done.err
    assert ("backbone" in done.err.splitlines()[0]) == (backbone != "lcam-demo")
