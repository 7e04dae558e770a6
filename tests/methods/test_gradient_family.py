"""XGrad-CAM, LayerCAM, Smooth Grad-CAM++, Integrated Grad-CAM and Ablation-CAM against others."""

from __future__ import annotations

import pytest
import torch
from pytorch_grad_cam import AblationCAM, LayerCAM, XGradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor
from torchcam.methods import LayerCAM as TorchcamLayerCAM
from torchcam.methods import SmoothGradCAMpp

from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.methods.ablation import AblationCam
from lcam_cli.methods.attention import min_max
from lcam_cli.methods.base import Method
from lcam_cli.methods.copies import IntegratedGradCam, SmoothGradCamPlusPlus
from lcam_cli.methods.gradient import LayerCam, XGradCam
from tests.methods.seeded import CLASSES, pictures, seeded_engine
from tests.tiny import tiny_backbone

NETWORKS = ["mobilenet_v2", "alexnet", "convnext_tiny"]
Y = torch.tensor([0, 3, 1])


def tiny() -> tuple[Engine, Tensor]:
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return Engine(tiny_backbone(), device="cpu"), x


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    ("method", "package"), [(XGradCam(), XGradCAM), (LayerCam(), LayerCAM), (None, AblationCAM)]
)
def test_agreement_with_the_grad_cam_package(
    name: str, method: Method | None, package: type
) -> None:
    if name == "convnext_tiny" and package is AblationCAM:
        name = "resnet18"  # below zero that package ablates to -1e7 instead of 0
    engine = seeded_engine(name, 64)
    x = pictures(64)
    seen = engine.forward(x)
    ours = (method or AblationCam(seen.A.shape[1]))(engine, seen, CLASSES)
    network = engine.backbone.network
    layer = network.get_submodule(engine.backbone.identity.layer)
    with package(network, [layer]) as theirs:
        targets = [ClassifierOutputTarget(int(c)) for c in CLASSES]
        expected = torch.from_numpy(theirs(engine.normalise(x).requires_grad_(), targets))
    assert (expected.amax((1, 2)) > 0.5).any(), "maps of zeros would agree with anything"
    # That package scales to [0, 1] a second time, after upsampling.
    difference = float((min_max(ours.saliency) - expected).abs().max())
    print(f"largest difference {difference:.1e}")
    assert difference < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_layer_cam_agrees_with_torchcam(name: str) -> None:
    engine = seeded_engine(name, 64)
    x = pictures(64)
    ours = LayerCam()(engine, engine.forward(x), CLASSES)
    network = engine.backbone.network
    with TorchcamLayerCAM(network, engine.backbone.identity.layer) as theirs:
        scores = network(engine.normalise(x).requires_grad_())
        (expected,) = theirs(CLASSES.tolist(), scores, normalized=False)
    assert (expected.amax((1, 2)) > 0).any(), "maps of zeros would agree with anything"
    assert ours.cam is not None
    difference = float((min_max(ours.cam) - min_max(expected)).abs().max())
    print(f"largest difference {difference:.1e}")
    assert difference < 1e-4


class Injected(SmoothGradCamPlusPlus):
    """With noise that the test knows."""

    def draw(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(11))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18"])
def test_smooth_grad_cam_plus_plus_agrees_with_torchcam(name: str) -> None:
    # On heads of pooling and a linear layer, where gradients do not vary over positions: elsewhere
    # torchcam takes Σ_pq g³·A for g³·Σ_pq A, and ReLU(g) of the last copy alone. It also shows the
    # last noisy A, so only its weights are taken here.
    engine = seeded_engine(name, 64)
    x = pictures(64)
    method = Injected(copies=3)
    seen = engine.forward(x)
    ours = method(engine, seen, CLASSES)
    span = x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True)
    std = torch.tensor(engine.backbone.preprocess.std).view(1, 3, 1, 1)
    draws = [0.15 * span * n / std for n in method.draw((3, 3, 64, 64))]
    network = engine.backbone.network
    with SmoothGradCAMpp(network, engine.backbone.identity.layer, num_samples=3) as theirs:
        theirs._distrib.sample = lambda _size: draws.pop()
        network(engine.normalise(x).requires_grad_())  # torchcam 0.4 hooks what has a gradient
        (alpha,) = theirs._get_weights(CLASSES.tolist(), eps=1e-6)
    assert not draws
    expected = (alpha[:, :, None, None] * seen.A).sum(1).relu()
    assert (expected.amax((1, 2)) > 0).all(), "a map of zeros would agree with anything"
    assert ours.cam is not None
    difference = float((min_max(ours.cam) - min_max(expected)).abs().max())
    print(f"largest difference {difference:.1e}")
    assert difference < 1e-4


def gradient(engine: Engine, x: Tensor, y: Tensor) -> Tensor:
    """g of a single image (3, H, W), by autograd through the split head."""
    A = engine.backbone.features(engine.normalise(x[None])).detach().requires_grad_()
    engine.backbone.head(A, ())[0, y].backward()
    assert A.grad is not None
    return A.grad[0]


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [2, 5])
def test_smooth_grad_cam_plus_plus_is_its_definition(batch_size: int) -> None:
    engine = seeded_engine("alexnet", 64, batch_size)
    x = pictures(64)
    x[1] *= 0.5  # another range
    method = SmoothGradCamPlusPlus(copies=3, seed=4)
    seen = engine.forward(x)
    ours = method(engine, seen, CLASSES)
    noise = method.draw((3, 3, 64, 64))
    assert not torch.equal(noise, SmoothGradCamPlusPlus(copies=3).draw((3, 3, 64, 64)))
    for b in range(2):
        span = x[b].max() - x[b].min()
        g = torch.stack([gradient(engine, x[b] + 0.15 * span * n, CLASSES[b]) for n in noise])
        L = torch.zeros(seen.A.shape[2:])
        for k in range(seen.A.shape[1]):
            A, d1, d2, d3 = (
                seen.A[b, k],
                g[:, k].mean(0),
                (g[:, k] ** 2).mean(0),
                (g[:, k] ** 3).mean(0),
            )
            L += (d2 / (2 * d2 + d3 * A.sum() + 1e-6) * d1.relu()).sum() * A
        torch.testing.assert_close(ours.cam[b], L.relu(), atol=1e-5 * float(L.max()), rtol=1e-4)


@pytest.mark.slow
def test_integrated_grad_cam_is_its_definition() -> None:
    engine = seeded_engine("alexnet", 64, batch_size=3)
    x = pictures(64)
    seen = engine.forward(x)
    ours = IntegratedGradCam(steps=4)(engine, seen, CLASSES)
    for b in range(2):
        alpha = torch.stack(
            [gradient(engine, x[b] * s, CLASSES[b]).mean((1, 2)) for s in (0.25, 0.5, 0.75, 1.0)]
        ).mean(0)
        L = (alpha[:, None, None] * seen.A[b]).sum(0).relu()
        torch.testing.assert_close(ours.cam[b], L, atol=1e-5 * float(L.max()), rtol=1e-4)


def test_by_hand_on_a_linear_head() -> None:
    # g = W[y,k]/64 everywhere, so XGrad-CAM's α_k is W/64, LayerCAM keeps positive weights, the
    # path changes nothing, and without A_k the logit loses W·mean(A_k).
    engine, x = tiny()
    seen = engine.forward(x)
    w = engine.backbone.network[6].weight.detach()[Y]
    A = seen.A
    logit = seen.logits.gather(1, Y[:, None])
    expected: dict[Method, Tensor] = {
        XGradCam(): w / 64,
        LayerCam(): w.relu() / 64,
        IntegratedGradCam(): w / 64,
        AblationCam(6): w * A.mean((2, 3)) / logit,
    }
    for method, alpha in expected.items():
        L = (alpha[:, :, None, None] * A).sum(1).relu()
        torch.testing.assert_close(method(engine, seen, Y).cam, L, atol=1e-5, rtol=1e-3)


def test_ablation_runs_the_head_alone_in_full_batches() -> None:
    engine, x = tiny()
    engine.batch_size = 4
    seen = engine.forward(x)
    seen.A[0, 2:] = 0  # two channels left, of six
    batches: list[int] = []
    network = engine.backbone.network
    network[4].register_forward_pre_hook(lambda _, given: batches.append(len(given[0])))
    network[0].register_forward_pre_hook(lambda *_: pytest.fail("below the target layer"))
    AblationCam(6)(engine, seen, Y)
    varying = int((seen.A != 0).any(3).any(2).sum())
    assert batches[0] == 3, "the logits with all channels"
    assert sum(batches[1:]) == varying < 18
    assert set(batches[1:-1]) == {4}


@pytest.mark.parametrize("make", [SmoothGradCamPlusPlus, IntegratedGradCam])
def test_no_copies_are_refused(make: type) -> None:
    with pytest.raises(LcamError, match="with 0"):
        make(0)
