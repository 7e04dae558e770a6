"""Where the cells of Hugging Face's networks lie, against the geometry of their code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.engine.grid import Grid

transformers: Any = pytest.importorskip("transformers")

SMALL = {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1]}

NETWORKS: dict[str, tuple[Callable[[], Any], Grid]] = {
    # Strides of 2 with padding 1 or 3: the first centre is the first pixel.
    "ResNet": (lambda: transformers.ResNetConfig(embedding_size=16, **SMALL), Grid(0, 32)),
    "RegNet": (
        lambda: transformers.RegNetConfig(embedding_size=16, groups_width=16, **SMALL),
        Grid(0, 32),
    ),
    # Patches of 4×4 and 2×2 that do not overlap tile the image.
    "ConvNext": (lambda: transformers.ConvNextConfig(**SMALL), Grid(15.5, 32)),
    "ConvNextV2": (lambda: transformers.ConvNextV2Config(**SMALL), Grid(15.5, 32)),
    # TensorFlow's padding: nothing before, one behind. 1 + 2 + 4 + 8 + 16 pixels.
    "MobileNetV1": (lambda: transformers.MobileNetV1Config(depth_multiplier=0.25), Grid(31, 32)),
    "MobileNetV2": (lambda: transformers.MobileNetV2Config(depth_multiplier=0.35), Grid(31, 32)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_cells_lie_where_the_geometry_says(name: str) -> None:
    config, expected = NETWORKS[name]
    network = getattr(transformers, f"{name}ForImageClassification")(config()).eval()
    assert load_backbone(network).grid == expected
