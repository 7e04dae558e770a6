"""A run of training on the tiny network, by function and by command."""

from __future__ import annotations

from pathlib import Path

import pytest

from lcam_cli import BackboneOptions, EngineOptions, TrainOptions
from tests.cli import job

OPTIONS = TrainOptions(
    backbone=BackboneOptions("own.py:net", "none", image_size=32),
    engine=EngineOptions("cpu", batch_size=4, workers=1),
)
WORDS = ["--backbone", "own.py:net", "--weights", "none", "--image-size", "32"]
WORDS += ["--device", "cpu", "--batch-size", "4", "--workers", "1"]


def begin(folder: Path, monkeypatch: pytest.MonkeyPatch, pictures: int) -> None:
    """Go into a folder with the network and so many images."""
    job.begin(folder, monkeypatch, "from tests.tiny import tiny_network as net\n", pictures)
