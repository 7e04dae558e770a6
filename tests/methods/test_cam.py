"""CAM against torchcam, and the heads it refuses."""

from __future__ import annotations

import pytest
import torch
from torchcam.methods import CAM

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.errors import LcamError
from lcam_cli.methods.attention import min_max
from lcam_cli.methods.cam import Cam
from lcam_cli.methods.registry import make_method
from tests.methods.seeded import CLASSES, pictures, seeded_engine


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "regnet_y_400mf"])
def test_cam_agrees_with_torchcam(name: str) -> None:
    engine = seeded_engine(name, 128)
    x = pictures(128)
    ours = Cam(engine.backbone)(engine, engine.forward(x), CLASSES)
    assert ours.cam is not None
    network = engine.backbone.network
    last = next(n for n, m in network.named_modules() if isinstance(m, torch.nn.Linear))
    with CAM(network, engine.backbone.identity.layer, last) as theirs:
        network(engine.normalise(x))
        (expected,) = theirs(CLASSES.tolist(), normalized=False)
    difference = float((min_max(ours.cam) - min_max(expected)).abs().max())
    print(f"largest difference {difference:.1e}")
    assert difference < 1e-4


@pytest.mark.parametrize("name", ["alexnet", "convnext_tiny"])
def test_other_heads_are_refused_before_any_work(name: str) -> None:
    backbone = load_backbone(name, "none")
    with pytest.raises(LcamError, match=f"cam cannot explain {name}") as refused:
        make_method("cam", backbone)
    assert "gradcam" in refused.value.hint
