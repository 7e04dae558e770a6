"""Score-CAM against a plain transcription of its definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from lcam_cli.engine.engine import Engine
from lcam_cli.methods.registry import make_method
from lcam_cli.methods.scorecam import ScoreCam
from tests.methods.seeded import likely, pictures, seeded_engine
from tests.tiny import tiny_backbone


def transcribed(engine: Engine, x: Tensor, A: Tensor, y: int, at_a_time: int) -> Tensor:
    """One image: H_k = ζ(θ(A_k)), L = ReLU(Σ_k softmax(f(X·H_k))_y · H_k), V = ζ(L).

    θ tiles the image with the cells, as the paper does.
    """
    side = x.shape[-1]
    H = interpolate(A[None], (side, side), mode="bilinear", align_corners=False)[0]
    for k in range(len(H)):
        span = H[k].max() - H[k].min()
        flat = A[k].max() == A[k].min()
        H[k] = torch.zeros_like(H[k]) if flat else (H[k] - H[k].min()) / span
    L = torch.zeros(side, side)
    with torch.no_grad():
        for masks in H.split(at_a_time):
            logits = engine.backbone.network(engine.normalise(x[None]) * masks[:, None])
            L += (logits.softmax(1)[:, y, None, None] * masks).sum(0)
    L = L.relu()
    return (L - L.min()) / (L.max() - L.min())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("mobilenet_v2", "features.17"),
        ("alexnet", "features.11"),
        ("densenet121", "features.transition1"),
    ],
)
def test_score_cam_is_its_definition(name: str, layer: str) -> None:
    engine = seeded_engine(name, 64, batch_size=48, layer=layer)
    x, y = pictures(64), likely(engine)
    seen = engine.forward(x)
    method = make_method("scorecam", engine.backbone)
    assert method.forward_passes == seen.A.shape[1]
    ours = method(engine, seen, y).saliency
    expected = torch.stack([transcribed(engine, x[b], seen.A[b], int(y[b]), 64) for b in (0, 1)])
    difference = float((ours - expected).abs().max())
    print(f"largest difference {difference:.1e}")
    assert difference < 1e-4


@pytest.mark.parametrize("batch_size", [1, 4, 5, 32])
def test_score_cam_whatever_the_batch(batch_size: int) -> None:
    engine = Engine(tiny_backbone(), device="cpu", batch_size=batch_size, align=False)
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    y = torch.tensor([2, 0, 1])
    seen = engine.forward(x)
    maps = ScoreCam(6)(engine, seen, y)
    expected = torch.stack([transcribed(engine, x[b], seen.A[b], int(y[b]), 1) for b in range(3)])
    torch.testing.assert_close(maps.saliency, expected, atol=1e-5, rtol=0)


def test_constant_channels_are_never_run_and_batches_are_full() -> None:
    engine = Engine(tiny_backbone(), device="cpu", batch_size=4, align=False)
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    seen = engine.forward(x)
    seen.A[0, 2:] = 0.7  # two channels vary
    seen.A[1] = 0.3  # none
    assert (seen.A[2].amax((1, 2)) > seen.A[2].amin((1, 2))).sum() == 6
    batches: list[int] = []
    engine.backbone.network.register_forward_pre_hook(
        lambda _, given: batches.append(len(given[0]))
    )
    maps = ScoreCam(6)(engine, seen, torch.tensor([2, 0, 1]))
    assert batches == [4, 4], "8 varying channels of two pictures"
    assert (maps.saliency[1] == 0).all()
    expected = transcribed(engine, x[0], seen.A[0], 2, 1)
    torch.testing.assert_close(maps.saliency[0], expected, atol=1e-5, rtol=0)


def test_pictures_of_constant_features_alone_give_zeros() -> None:
    engine = Engine(tiny_backbone(), device="cpu")
    seen = engine.forward(torch.rand(2, 3, 32, 32))
    seen.A[:] = 1
    assert (ScoreCam(6)(engine, seen, torch.tensor([0, 1])).saliency == 0).all()
