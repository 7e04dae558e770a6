"""Where the calls of a page run: a folder, images, and networks as if they were trained."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from tests.conftest import ROOT
from tests.docs.blocks import blocks_of

RECIPES = ROOT / "docs" / "recipes.md"
RUN_BY_RECIPES = "elsewhere: tests/docs/test_recipes.py, "
Numbers = tuple[tuple[float, ...], tuple[float, ...]]
IMAGENET: Numbers = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PIXELS: Numbers = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def recipe(name: str, language: str) -> str:
    """A block of the page of recipes."""
    note = f"{RUN_BY_RECIPES}{name} {language}"
    (found,) = [block.code for block in blocks_of(RECIPES) if block.note == note]
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home and working folder, in which nothing is fetched."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    torch.manual_seed(0)
    return tmp_path


def photos(side: int, *, grey: bool = False, tall: bool = False) -> list[Path]:
    """Two smooth images in photos/, at the network's own size, so that nobody resizes them.

    ``tall`` makes one that is cropped.
    """
    folder = Path("photos")
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(2):
        cells = rng.integers(0, 256, (5, 4) if grey else (5, 4, 3), np.uint8)
        size = (side, side + 10 * tall * i)
        Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return sorted(folder.iterdir())


def prepared(paths: list[Path], by: Numbers) -> torch.Tensor:
    """Pictures as torchvision prepares them, (N, 3, H, W)."""
    steps = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(*by)])
    return torch.stack([steps(Image.open(path).convert("RGB")) for path in paths])


def settle(network: nn.Module, x: torch.Tensor) -> None:
    """Have batch norms count what goes through them, as after a training: logits then differ."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 1.0  # one pass is enough
    with torch.no_grad():
        network.train()
        network(x)
        network.eval()
