"""SIDU, Group-CAM, SISE and Ada-SISE against slow plain transcriptions of their definitions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.transforms.functional import gaussian_blur

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.engine.stages import stage_ends
from lcam_cli.methods.base import Method
from lcam_cli.methods.groupcam import GroupCam, blurred
from lcam_cli.methods.sidu import Sidu
from lcam_cli.methods.sise import Sise, fuse, otsu
from tests.methods.seeded import likely, pictures, seeded_engine
from tests.tiny import tiny_backbone

Y = torch.tensor([0, 3, 1])


def tiny(batch_size: int = 4) -> tuple[Engine, Tensor]:
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    engine = Engine(tiny_backbone(), device="cpu", batch_size=batch_size, align=False)
    engine.backbone.network[6].weight.data *= 8  # scores that a mask can change
    return engine, x


def zeta(m: Tensor) -> Tensor:
    return (m - m.min()) / (m.max() - m.min()) if m.max() > m.min() else torch.zeros_like(m)


def theta(m: Tensor, side: int) -> Tensor:
    return interpolate(m[None, None], (side, side), mode="bilinear", align_corners=False)[0, 0]


def probabilities(engine: Engine, given: Tensor) -> Tensor:
    with torch.no_grad():
        return engine.backbone.network(given[None])[0].softmax(0)


def sidu(engine: Engine, x: Tensor, A: Tensor) -> Tensor:
    given = engine.normalise(x[None])[0]
    P = probabilities(engine, given)
    M = [theta((zeta(a) > 0.5).float(), x.shape[-1]) for a in A if a.max() > a.min()]
    Pk = [probabilities(engine, given * m) for m in M]
    V = torch.zeros_like(M[0])
    for p, m in zip(Pk, M, strict=True):
        sd = torch.exp(-((P - p).norm() ** 2) / (2 * 0.25**2))
        V += sd * sum((p - q).norm() for q in Pk) * m
    return zeta(V)


def groupcam(engine: Engine, x: Tensor, A: Tensor, y: int) -> Tensor:
    side = x.shape[-1]
    A = A.clone().requires_grad_()
    g = torch.autograd.grad(engine.backbone.head(A[None], ())[0, y], A)[0]
    weighted = (g.mean((1, 2))[:, None, None] * A).detach()
    groups = [c.sum(0).relu() for c in weighted.chunk(32)]
    cut = torch.quantile(torch.stack(groups), 0.7)
    kernel = min(51, 2 * side - 1)
    blur = engine.normalise(gaussian_blur(x[None], kernel, 50.0))[0]
    given = engine.normalise(x[None])[0]
    L = torch.zeros(side, side)
    for c in groups:
        m = zeta(theta(torch.where(c > cut, c, 0), side))
        shown = given * m + blur * (1 - m)
        L += (probabilities(engine, shown)[y] - probabilities(engine, blur)[y]) * m
    return zeta(L.relu())


def plain_otsu(values: list[float]) -> float:
    low, high = min(values), max(values)
    if low == high:
        return low - 1
    bins = [min(255, int((v - low) / (high - low) * 256)) for v in values]
    best, cut = -1.0, 0
    for edge in range(1, 256):
        under, over = [b for b in bins if b < edge], [b for b in bins if b >= edge]
        if over:
            apart = sum(under) / len(under) - sum(over) / len(over)
            if len(under) * len(over) * apart**2 > best * (1 + 1e-12):
                best, cut = len(under) * len(over) * apart**2, edge
    return low + cut / 256 * (high - low)


def sise(engine: Engine, x: Tensor, y: int, blocks: list[str], adaptive: bool) -> Tensor:
    side, given = x.shape[-1], engine.normalise(x[None])[0]
    fused = torch.zeros(side, side)
    for number, block in enumerate(blocks):
        caught: list[Tensor] = []
        module = engine.backbone.network.get_submodule(block)

        def keep(_m: nn.Module, _g: object, out: Tensor, caught: list[Tensor] = caught) -> Tensor:
            caught.append(out.detach().clone().requires_grad_())
            return caught[0].clone()

        handle = module.register_forward_hook(keep)
        engine.backbone.network(given[None])[0, y].backward()
        handle.remove()
        A, beta = caught[0].detach()[0], caught[0].grad[0].mean((1, 2)).tolist()
        positive = [b for b in beta if b > 0]
        cut = plain_otsu(positive) if adaptive else 0.0
        V = torch.zeros(side, side)
        for a, b in zip(A, beta, strict=True):
            if b > 0 and b > cut:
                H = zeta(theta(a, side))
                V += probabilities(engine, given * H)[y] * H
        V = zeta(V)
        keep_mask = plain_otsu(V.flatten().tolist())
        fused = V if number == 0 else zeta((fused + V) * (keep_mask < V))
    return fused


@pytest.mark.parametrize("batch_size", [2, 7])
def test_the_tiny_network_gets_the_definitions(batch_size: int) -> None:
    engine, x = tiny(batch_size)
    seen = engine.forward(x)
    blocks = ["1", "3"]
    for b in range(3):
        y = int(Y[b])
        for method, expected in (
            (Sidu(6), sidu(engine, x[b], seen.A[b])),
            (Sise(engine.backbone), sise(engine, x[b], y, blocks, False)),
            (Sise(engine.backbone, True), sise(engine, x[b], y, blocks, True)),
        ):
            ours = method(engine, seen, Y).saliency[b]
            assert expected.max() == 1
            difference = float((ours - expected).abs().max())
            assert difference < 1e-4, f"{method.name} of image {b}: {difference:.1e}"


@pytest.mark.parametrize("size", [(224, 224), (60, 90), (33, 20), (2, 5), (1, 1)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_picture_is_blurred_as_torchvision_blurs(
    size: tuple[int, int], layout: torch.memory_format
) -> None:
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=layout)
    kernel = min(51, 2 * min(size) - 1)
    torch.testing.assert_close(
        blurred(x), gaussian_blur(x, [kernel, kernel], [50.0, 50.0]), atol=1e-5, rtol=0
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v2", "alexnet", "resnet18"])
def test_group_cam_and_sidu_are_their_definitions(name: str) -> None:
    engine = seeded_engine(name, 64, batch_size=48)
    x, y = pictures(64)[:1], likely(engine)[:1]
    seen = engine.forward(x)
    few = seen.A[:, :40].clone()
    for method, expected in (
        (GroupCam(), groupcam(engine, x[0], seen.A[0], int(y[0]))),
        (Sidu(40), sidu(engine, x[0], few[0])),
    ):
        if isinstance(method, Sidu):
            seen.A = few
        ours = method(engine, seen, y).saliency[0]
        assert expected.max() == 1
        difference = float((ours - expected).abs().max())
        print(f"{method.name}: largest difference {difference:.1e}")
        assert difference < 1e-4


@pytest.mark.parametrize(
    "make", [lambda e: Sidu(6), lambda e: GroupCam(), lambda e: Sise(e.backbone)]
)
def test_a_picture_of_which_the_network_sees_nothing_gets_zeros(
    make: Callable[[Engine], Method],
) -> None:
    engine, x = tiny()
    for layer in (0, 2):
        engine.backbone.network[layer].weight.data.zero_()
    seen = engine.forward(x)
    assert (make(engine)(engine, seen, Y).saliency == 0).all()


def test_otsu_parts_two_heaps_and_leaves_one_whole() -> None:
    heaps = torch.tensor([0.0, 0.1, 0.1, 0.9, 1.0])
    assert 0.1 < float(otsu(heaps)) < 0.9
    values = torch.rand(200, generator=torch.Generator().manual_seed(0)) ** 2
    assert float(otsu(values)) == pytest.approx(plain_otsu(values.tolist()), abs=1e-6)
    assert (torch.ones(4) > otsu(torch.ones(4))).all()


def test_fusing_by_hand() -> None:
    F, V = torch.tensor([[[1.0, 0.2, 0.6]]]), torch.tensor([[[0.0, 0.8, 1.0]]])
    torch.testing.assert_close(fuse(F, V), torch.tensor([[[0.0, 1.0 / 1.6, 1.0]]]))


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("resnet18", {"relu": 64, "layer1": 64, "layer2": 128, "layer3": 256, "layer4": 512}),
        ("alexnet", None),
    ],
)
def test_the_ends_of_stages(name: str, ends: dict[str, int] | None) -> None:
    backbone = load_backbone(name, "none")
    found = stage_ends(backbone)
    assert list(found)[-1] == backbone.identity.layer
    if ends:
        assert found == ends
    assert not any(m._forward_hooks for m in backbone.network.modules())
