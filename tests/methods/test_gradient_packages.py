"""Grad-CAM and Grad-CAM++ against the grad-cam and torchcam packages."""

from __future__ import annotations

import pytest
import torch
from pytorch_grad_cam import GradCAMPlusPlus
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torchcam.methods import GradCAM

from lcam_cli.engine.engine import Engine
from lcam_cli.methods.attention import min_max
from lcam_cli.methods.gradient import GradCam, GradCamPlusPlus
from tests.methods.seeded import CLASSES, pictures, seeded_engine
from tests.tiny import tiny_backbone

NETWORKS = ["mobilenet_v2", "alexnet", "convnext_tiny"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_grad_cam_agrees_with_torchcam(name: str) -> None:
    engine = seeded_engine(name, 128)
    x = pictures(128)
    ours = GradCam()(engine, engine.forward(x), CLASSES)
    assert ours.cam is not None
    network = engine.backbone.network
    with GradCAM(network, engine.backbone.identity.layer) as theirs:
        scores = network(engine.normalise(x).requires_grad_())
        (expected,) = theirs(CLASSES.tolist(), scores, normalized=False)
    assert (expected.amax((1, 2)) > 0).all(), "a map of zeros would agree with anything"
    difference = float((min_max(ours.cam) - min_max(expected)).abs().max())
    print(f"largest difference {difference:.1e}")
    assert difference < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_grad_cam_plus_plus_agrees_with_the_grad_cam_package(name: str) -> None:
    # Not with torchcam: its GradCAMpp divides a copy of g², so its weights are Σ g²·ReLU(g).
    engine = seeded_engine(name, 128)
    x = pictures(128)
    ours = GradCamPlusPlus()(engine, engine.forward(x), CLASSES)
    network = engine.backbone.network
    layer = network.get_submodule(engine.backbone.identity.layer)
    with GradCAMPlusPlus(network, [layer]) as theirs:
        targets = [ClassifierOutputTarget(int(c)) for c in CLASSES]
        expected = torch.from_numpy(theirs(engine.normalise(x).requires_grad_(), targets))
    assert (expected.amax((1, 2)) > 0.5).all(), "a map of zeros would agree with anything"
    # That package scales to [0, 1] a second time, after upsampling.
    difference = float((min_max(ours.saliency) - expected).abs().max())
    print(f"largest difference {difference:.1e}")
    assert difference < 1e-4


def test_grad_cam_plus_plus_worked_by_hand() -> None:
    # Pooling and a linear layer: g = W[y,k]/64 at each of 64 positions, so with w = W[y,k]
    # α_k = 64·a·ReLU(g) and a = g²/(2g² + g³·ΣA + ε).
    engine = Engine(tiny_backbone(), device="cpu")
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    seen = engine.forward(x)
    y = torch.tensor([0, 3, 1])
    maps = GradCamPlusPlus()(engine, seen, y)
    W = engine.backbone.network[6].weight
    for b in range(3):
        L = torch.zeros(8, 8)
        for k in range(6):
            g = float(W[y[b], k]) / 64
            A = seen.A[b, k]
            if g > 0:
                L += 64 * g**2 / (2 * g**2 + g**3 * float(A.sum()) + 1e-6) * g * A
        torch.testing.assert_close(maps.cam[b], L)
