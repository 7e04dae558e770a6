"""Opti-CAM against a plain transcription, image by image."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lcam_cli.engine.engine import Engine
from lcam_cli.methods.attention import min_max
from lcam_cli.methods.explain import pictures_at_once
from lcam_cli.methods.opticam import OptiCam, start
from tests.methods import oracles
from tests.methods.heads import SHAPES, Y, engine_of, pictures_of
from tests.tiny import tiny_backbone
from tests.transformers import own_backbone, tiny_vit

# The other head's scores jump where the largest of a map changes; 100 steps take them elsewhere.
SMOOTH = ["pooled", "smooth", "normed"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("head", SMOOTH)
def test_the_map_is_the_equation(head: str, shape: tuple[tuple[int, int], int]) -> None:
    engine = engine_of(head, *shape)
    x = pictures_of(engine)
    forward = engine.forward(x)
    V = OptiCam(12)(engine, forward, Y).saliency
    for b in range(3):
        expected = oracles.opticam(engine, x[b], forward.A[b], int(Y[b]), 12)
        torch.testing.assert_close(V[b].double(), expected, atol=1e-4, rtol=0)


def test_all_steps_keep_the_logit_better_than_none() -> None:
    engine = engine_of("smooth")
    x = pictures_of(engine)
    forward = engine.forward(x)
    logit = forward.logits.gather(1, Y[:, None])

    def lost(V: Tensor) -> Tensor:
        return (engine.logits(x * V[:, None]).gather(1, Y[:, None]) - logit).abs()

    V = OptiCam()(engine, forward, Y).saliency
    mean = forward.A.mean(1)
    before = F.interpolate(mean[:, None], (32, 32), mode="bilinear")[:, 0]
    before = min_max(before)
    assert (lost(V) < lost(before)).all()


def test_a_picture_has_the_same_map_in_every_batch() -> None:
    engine = engine_of("normed")
    forward = engine.forward(pictures_of(engine))
    together = OptiCam()(engine, forward, Y)
    again = OptiCam()(engine, forward, Y)
    assert torch.equal(together.saliency, again.saliency)
    for b in range(3):
        alone = OptiCam()(engine, forward.only(slice(b, b + 1)), Y[b : b + 1])
        torch.testing.assert_close(alone.saliency[0], together.saliency[b], atol=1e-4, rtol=0)


def test_a_batch_is_as_many_pictures_as_the_engine_takes() -> None:
    engine = Engine(tiny_backbone(), device="cpu")
    assert pictures_at_once(engine, OptiCam()) == engine.batch_size == 32


def test_features_that_are_flat_give_a_flat_map() -> None:
    engine = engine_of("smooth")
    forward = engine.forward(pictures_of(engine))
    forward.A = torch.ones_like(forward.A)
    assert not OptiCam()(engine, forward, Y).saliency.any()


def test_channels_that_cancel_do_not_begin_alike() -> None:
    """A LayerNorm's add up to nothing: what ζ made of it would be rounding, other in any batch."""
    A = torch.randn(2, 6, 4, 4, generator=torch.Generator().manual_seed(0))
    normed = F.layer_norm(A.transpose(1, 3), (6,)).transpose(1, 3)
    rounding = torch.finfo(torch.float32).eps
    assert not start(A, rounding).any()
    u = start(torch.cat([A, normed]), rounding)
    assert not u[:2].any()
    variance = normed.var((2, 3), correction=0)
    torch.testing.assert_close(u[2:], variance / variance.amax(1, keepdim=True))
    mixed = (u[2:].softmax(1)[:, :, None, None] * normed).sum(1)
    assert (mixed.amax((1, 2)) - mixed.amin((1, 2)) > 0.01).all()
    assert not start(torch.zeros(1, 6, 4, 4), rounding).any()


def test_maps_at_a_layer_norm_do_not_depend_on_the_batch() -> None:
    engine = Engine(own_backbone(tiny_vit()), device="cpu")
    assert engine.backbone.identity.layer.endswith("ln_1")
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    V = OptiCam(12)(engine, engine.forward(x), Y).saliency
    for b in range(3):
        alone = OptiCam(12)(engine, engine.forward(x[b : b + 1]), Y[b : b + 1]).saliency
        torch.testing.assert_close(alone[0], V[b], atol=1e-3, rtol=0)
