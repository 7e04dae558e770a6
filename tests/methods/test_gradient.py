"""Grad-CAM against the grad-cam package, on three kinds of architecture."""

from __future__ import annotations

import pytest
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.methods.attention import min_max
from lcam_cli.methods.gradient import GradCam


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v2", "alexnet", "convnext_tiny"])
def test_grad_cam_agrees_with_the_grad_cam_package(name: str) -> None:
    engine = Engine(load_backbone(name, "none", seed=2), device="cpu", align=False)
    x = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(3))
    classes = torch.tensor([5, 700])
    network = engine.backbone.network
    # Random weights give tiny gradients, which the other package's ε of 1e-7 would swallow.
    last = [m for m in network.modules() if isinstance(m, torch.nn.Linear)][-1]
    last.weight.data /= GradCam()(engine, engine.forward(x), classes).cam.max()
    ours = GradCam()(engine, engine.forward(x), classes)
    layer = network.get_submodule(engine.backbone.identity.layer)
    with GradCAM(network, [layer]) as theirs:
        targets = [ClassifierOutputTarget(int(c)) for c in classes]
        expected = torch.from_numpy(theirs(engine.normalise(x).requires_grad_(), targets))
    assert expected.max() > 0.5, "a map of zeros would agree with anything"
    # That package scales to [0, 1] a second time, after upsampling.
    assert float((min_max(ours.saliency) - expected).abs().max()) < 1e-4
