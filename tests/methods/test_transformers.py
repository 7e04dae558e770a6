"""Every method on transformers, and Grad-CAM against the grad-cam package."""

from __future__ import annotations

import pytest
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.methods.attention import min_max
from lcam_cli.methods.gradient import GradCam
from lcam_cli.methods.options import MethodOptions
from lcam_cli.methods.registry import is_classless, known_methods, make_method
from tests.methods.seeded import CLASSES, pictures, seeded_engine
from tests.transformers import own_backbone, tiny_swin, tiny_vit


def _behind_a_class_token(tokens: torch.Tensor) -> torch.Tensor:
    side = round((tokens.shape[1] - 1) ** 0.5)
    return tokens[:, 1:].reshape(len(tokens), side, side, -1).permute(0, 3, 1, 2)


def _grid(places: torch.Tensor) -> torch.Tensor:
    return places.permute(0, 3, 1, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layer", "reshape"),
    [
        ("vit_b_32", "encoder.layers.encoder_layer_11.ln_1", _behind_a_class_token),
        ("swin_t", "norm", _grid),
    ],
)
def test_grad_cam_agrees_with_the_grad_cam_package(name: str, layer: str, reshape: object) -> None:
    engine = seeded_engine(name, 224)
    x = pictures(224)
    ours = GradCam()(engine, engine.forward(x), CLASSES)
    network = engine.backbone.network
    with GradCAM(network, [network.get_submodule(layer)], reshape_transform=reshape) as theirs:
        targets = [ClassifierOutputTarget(int(c)) for c in CLASSES]
        expected = torch.from_numpy(theirs(engine.normalise(x).requires_grad_(), targets))
    assert (expected.amax((1, 2)) > 0.5).all(), "a map of zeros would agree with anything"
    # That package scales to [0, 1] a second time, after upsampling.
    difference = float((min_max(ours.saliency) - expected).abs().max())
    print(f"largest difference {difference:.1e}")
    assert difference < 1e-4


@pytest.mark.parametrize("network", [tiny_vit, tiny_swin])
@pytest.mark.parametrize("name", [name for name in known_methods() if name != "random"])
def test_every_method_explains_a_transformer(network: object, name: str) -> None:
    engine = Engine(own_backbone(network()), device="cpu")  # type: ignore[operator]
    options = MethodOptions(rise_masks=40, rise_cells=4)
    if name == "cam" and network is tiny_vit:
        with pytest.raises(LcamError, match="not average pooling"):
            make_method(name, engine.backbone, options=options)
        return
    if name in ("sise", "adasise", "refinecam") and network is tiny_vit:
        with pytest.raises(LcamError, match="no stages of feature maps"):
            make_method(name, engine.backbone, options=options)
        return
    if name in ("rollout", "gae", "legrad") and network is tiny_swin:
        with pytest.raises(LcamError, match="not of all 4x4 patches"):
            make_method(name, engine.backbone, options=options)
        return
    method = make_method(name, engine.backbone, options=options)
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    seen = engine.forward(x)
    V = method(engine, seen, seen.predicted).saliency
    assert V.shape == (2, 32, 32)
    assert (V.amax((1, 2)) > V.amin((1, 2))).all()
    other = (seen.predicted + 1) % 4
    assert torch.allclose(method(engine, seen, other).saliency, V) == is_classless(name)
