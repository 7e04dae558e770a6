"""A network small enough for tests that train, and images for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.networks.network import Network
from lcam_cli.training.learned import TrainingBatch
from lcam_cli.training.shown import DRAWS

SMALL = Preprocess(image_size=32, resize=36)


def tiny_network(classes: int = 4, channels: int = 6) -> nn.Module:
    """Two convolutions, global pooling, one linear layer; the same values every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return nn.Sequential(
            nn.Conv2d(3, 5, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(5, channels, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, classes),
        )


class Standardised(nn.Module):
    """Divides each image by its own range: 0/0 on an image of one colour."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = tiny_network()[:4], tiny_network()[4:]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x - x.amin((2, 3), keepdim=True)
        logits: torch.Tensor = self.head(self.features(x / x.amax((2, 3), keepdim=True)))
        return logits


def tiny_backbone(classes: int = 4, layer: str = "3") -> Backbone:
    network = Network(tiny_network(classes), "tiny", "none:seed=7", preprocess=SMALL)
    return Backbone(network, layer)


def write_pictures(folder: Path, count: int, seed: int = 0) -> list[str]:
    """Small smooth images, as JPEG."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    paths = []
    for i in range(count):
        cells = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8))
        path = folder / f"{i:03}.jpg"
        cells.resize((50, 40), Image.Resampling.BICUBIC).save(path)
        paths.append(str(path))
    return paths


def training_batch(engine: Engine, x: Tensor) -> TrainingBatch:
    """What a step learns from images (B, 3, H, W): the classifier's own labels, some draws."""
    forward = engine.forward(x)
    draws = torch.rand(len(x), DRAWS, generator=torch.Generator().manual_seed(0))
    return TrainingBatch(forward, forward.predicted, draws)
