"""The small classifier that ships with the package, for ``lcam demo``.

Each of its last features, at 16×16 positions, sees 55 of the input's 128 pixels, about the size of
an object: they tell what is there, and where. Weights: ``make_weights``.
"""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn
from torch.random import fork_rng

from lcam_cli.demo.pictures import CLASSES

__all__ = [
    "CLASSES",
    "IMAGE_SIZE",
    "MEAN",
    "RESIZE",
    "STD",
    "WEIGHTS_FILE",
    "DemoClassifier",
    "demo_classifier",
    "load_demo_classifier",
]

IMAGE_SIZE = 128
"""Side of the square input, pixels."""

RESIZE = 144
"""The shorter side before the centre crop, pixels."""

MEAN = (0.5, 0.5, 0.5)
STD = (0.5, 0.5, 0.5)
"""Input is (pixel in [0, 1] - MEAN) / STD, RGB."""

WEIGHTS_FILE = Path(__file__).with_name("classifier.safetensors")


class DemoClassifier(nn.Module):
    """Convolutions, global average pooling, one linear layer.

    ``features`` gives the maps A, (B, 96, 16, 16), that class activation maps weigh.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _block(3, 24, kernel=7, stride=4),
            _block(24, 32),
            _block(32, 64, stride=2),
            _block(64, 64),
            _block(64, 96),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(96, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        """Turn normalised images (B, 3, 128, 128) into logits (B, 10), both float."""
        logits: Tensor = self.classifier(self.flatten(self.pool(self.features(x))))
        return logits


def _block(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def demo_classifier() -> DemoClassifier:
    """Build the network with random weights (torch's global generator)."""
    return DemoClassifier()


def load_demo_classifier() -> DemoClassifier:
    """Return the network with its shipped weights, on the CPU, float32, in eval mode."""
    with fork_rng(devices=[]):  # what the random weights draw is not missing elsewhere
        network = demo_classifier()
    network.load_state_dict(load_file(WEIGHTS_FILE))
    return network.eval()
