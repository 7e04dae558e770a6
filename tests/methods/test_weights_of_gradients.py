"""HiResCAM, EigenGradCAM, ShapleyCAM and EigenCAM against the grad-cam package and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_grad_cam
import torch
from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection
from torch import Tensor

from lcam_cli.engine.engine import Engine
from lcam_cli.methods.attention import min_max
from lcam_cli.methods.cam import Cam
from lcam_cli.methods.eigen import EigenCam, EigenGradCam, first_component
from lcam_cli.methods.gradient import GradCam, HiResCam
from lcam_cli.methods.shapley import ShapleyCam
from tests.methods.heads import HEADS, SHAPES, Y, engine_of, pictures_of
from tests.methods.oracles import grad_cam_package
from tests.methods.seeded import CLASSES, pictures, seeded_engine
from tests.tiny import tiny_backbone
from tests.transformers import own_backbone, tiny_vit


def of_package(name: str, engine: Engine, x: Tensor, classes: Tensor, layer: str) -> Tensor:
    if not hasattr(pytorch_grad_cam, name):
        pytest.skip(f"this grad-cam has no {name}")
    return grad_cam_package(name, engine, x, classes, layer)


# That package's ShapleyCAM fails where the gradient does not depend on the features, and where a
# view of them follows; those heads are in the next two tests.
AGREEING = [
    *((HiResCam(), "HiResCAM", head) for head in HEADS),
    *((ShapleyCam(), "ShapleyCAM", head) for head in ("normed", "convolved")),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("method", "package", "head"), AGREEING)
def test_agreement_with_the_grad_cam_package(
    method: HiResCam | ShapleyCam, package: str, head: str, shape: tuple[tuple[int, int], int]
) -> None:
    engine = engine_of(head, *shape)
    x = pictures_of(engine)
    ours = method(engine, engine.forward(x), Y).saliency
    expected = of_package(package, engine, x, Y, "3")
    assert (expected.amax((1, 2)) > 0.5).any(), "maps of zeros would agree with anything"
    # That package scales to [0, 1] a second time, after upsampling.
    torch.testing.assert_close(min_max(ours), expected, atol=1e-4, rtol=0)


def test_shapleycam_sees_what_gradcam_does_not() -> None:
    for head, same in (("pooled", True), ("smooth", False), ("normed", False)):
        engine = engine_of(head)
        forward = engine.forward(pictures_of(engine))
        shapley, grad = (m(engine, forward, Y).saliency for m in (ShapleyCam(), GradCam()))
        assert torch.allclose(shapley, grad, atol=1e-5) == same


def test_shapleycam_by_a_dense_hessian() -> None:
    engine = engine_of("smooth", (8, 8))
    forward = engine.forward(pictures_of(engine))
    maps = ShapleyCam()(engine, forward, Y)
    for b, y in enumerate(Y):
        A = forward.A[b]

        def f(A: Tensor, y: Tensor = y) -> Tensor:
            return engine.backbone.network[4:](A[None])[0, y]

        g = torch.autograd.functional.jacobian(f, A)
        H = torch.autograd.functional.hessian(f, A).reshape(A.numel(), A.numel())
        w = (g - (H @ A.flatten()).view_as(A) / 2).mean((1, 2))
        expected = (w[:, None, None] * A).sum(0).relu()
        torch.testing.assert_close(maps.cam[b], expected, atol=1e-4, rtol=1e-4)


def test_shapleycam_of_attention_whose_kernel_has_no_second_gradient() -> None:
    engine = Engine(own_backbone(tiny_vit(), "encoder.layers.encoder_layer_1"), device="cpu")
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    maps = ShapleyCam()(engine, engine.forward(x), torch.tensor([0, 1]))
    assert maps.saliency.isfinite().all()
    assert maps.saliency.std() > 0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("head", HEADS)
def test_eigen_cams_are_the_packages_projections(
    head: str, shape: tuple[tuple[int, int], int]
) -> None:
    engine = engine_of(head, *shape)
    forward = engine.forward(pictures_of(engine))
    g = engine.feature_gradients(forward, Y)
    for method, given in ((EigenCam(), forward.A), (EigenGradCam(), g * forward.A)):
        cam = method(engine, forward, Y).cam
        theirs = torch.from_numpy(get_2d_projection(given.numpy()))
        for ours, other in zip(cam, theirs, strict=True):
            scale = float(other.abs().max())
            assert ours.max() == ours.abs().max(), "the largest magnitude is positive"
            apart = min(float((ours - sign * other).abs().max()) for sign in (1, -1))
            assert apart < 1e-4 * scale


@pytest.mark.parametrize(("channels", "cells"), [(3, 8), (40, 3)])
def test_the_first_component_is_that_of_numpy(channels: int, cells: int) -> None:
    A = torch.randn(2, channels, cells, cells, generator=torch.Generator().manual_seed(3))
    for ours, one in zip(first_component(A), A.double().numpy(), strict=True):
        X = one.reshape(channels, -1).T
        X = X - X.mean(0)
        expected = (X @ np.linalg.svd(X)[2][0]).reshape(cells, cells)
        expected *= np.sign(expected.flat[np.abs(expected).argmax()])
        np.testing.assert_allclose(ours.numpy(), expected, atol=1e-5)


def test_features_that_are_alike_everywhere_give_zeros_and_none_gives_none() -> None:
    A = torch.rand(3, 6, 1, 1, generator=torch.Generator().manual_seed(0)).expand(3, 6, 7, 7)
    assert torch.equal(first_component(A), torch.zeros(3, 7, 7))
    assert torch.equal(first_component(A[:, :, :2, :2]), torch.zeros(3, 2, 2))
    A = torch.rand(2, 6, 7, 7)
    A[1, 2, 3, 4] = torch.nan
    L = first_component(A)
    assert L[0].isfinite().all()
    assert L[1].isnan().all()


def test_eigencam_explains_no_class_and_eigengradcam_does() -> None:
    engine = engine_of("smooth")
    forward = engine.forward(pictures_of(engine))
    for method, same in ((EigenCam(), True), (EigenGradCam(), False)):
        one, other = (method(engine, forward, y).saliency for y in (Y, (Y + 1) % 4))
        assert torch.equal(one, other) == same


def test_hirescam_is_cam_up_to_a_positive_factor_where_pooling_and_one_linear_layer_follow() -> (
    None
):
    engine = Engine(tiny_backbone(), device="cpu")
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    forward = engine.forward(x)
    L = HiResCam()(engine, forward, Y).cam
    positive = Cam(engine.backbone)(engine, forward, Y).cam.relu()  # CAM keeps the sign
    assert (positive.amax((1, 2)) > 0).all()
    P, Q = L.shape[1:]
    torch.testing.assert_close(L * P * Q, positive)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "package", "name"),
    [
        (HiResCam(), "HiResCAM", "mobilenet_v2"),
        (HiResCam(), "HiResCAM", "alexnet"),
        (HiResCam(), "HiResCAM", "convnext_tiny"),
        (ShapleyCam(), "ShapleyCAM", "convnext_tiny"),
    ],
)
def test_agreement_on_networks_of_torchvision(
    method: HiResCam | ShapleyCam, package: str, name: str
) -> None:
    engine = seeded_engine(name, 64)
    x = pictures(64)
    ours = method(engine, engine.forward(x), CLASSES).saliency
    expected = of_package(package, engine, x, CLASSES, engine.backbone.identity.layer)
    assert (expected.amax((1, 2)) > 0.5).any(), "maps of zeros would agree with anything"
    difference = float((min_max(ours) - expected).abs().max())
    print(f"largest difference {difference:.1e}")
    assert difference < 1e-4
