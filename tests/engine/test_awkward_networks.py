"""Networks that do beside their forward pass what a trace or a hook does not see."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.methods.registry import make_method
from lcam_cli.networks.network import Network
from tests.tiny import SMALL


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))


class _OwnGradient(torch.autograd.Function):
    """Rounds, and hands the gradient through, as where a network is trained to be quantised."""

    @staticmethod
    def forward(_ctx: object, x: Tensor) -> Tensor:
        return (8 * x).round() / 8

    @staticmethod
    def backward(_ctx: object, g: Tensor) -> Tensor:
        return 0.5 * g


class OwnGradient(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(_OwnGradient.apply(self.features(x)).mean((2, 3)))


class InPlace(Base):
    def forward(self, x: Tensor) -> Tensor:
        x.sub_(0.4).div_(0.2)
        return super().forward(x)


class KeptByHook(Base):
    """A hook keeps what the target layer gives, and the head reads that too."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, Tensor] = {}
        self.features[3].register_forward_hook(lambda _m, _x, y: self.kept.__setitem__("A", y))
        self.other = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        z = super().forward(x)
        return z + self.other(self.kept["A"].amax((2, 3)))


class Siamese(Base):
    """The last call of the features is on a stored image, not on the one that is explained."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("stored", torch.rand(1, 3, 32, 32))

    def forward(self, x: Tensor) -> Tensor:
        return (super().forward(x) - super().forward(self.stored)).abs()


class Running(Base):
    """What it keeps of a pass is a stand-in's while it is traced."""

    def __init__(self) -> None:
        super().__init__()
        self.last: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        A = self.features(x)
        self.last.append(A)
        return self.fc(A.mean((2, 3)))


def drawn(kind: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind().eval().requires_grad_(False)


def by_hand(network: nn.Module, x: Tensor, classes: Tensor, call: int) -> Tensor:
    """Grad-CAM by a hook and autograd alone."""
    calls: list[Tensor] = []
    handle = network.get_submodule("features.3").register_forward_hook(
        lambda _m, _x, output: calls.append(output)
    )
    with torch.enable_grad():
        logits = network(x.clone().requires_grad_() * 1)
    handle.remove()
    (G,) = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), calls[call])
    return (G.mean((2, 3), keepdim=True) * calls[call]).sum(1).relu().detach()


@pytest.mark.parametrize(
    ("kind", "call"),
    [(OwnGradient, 0), (InPlace, 0), (KeptByHook, 0), (Siamese, 0), (Running, 0)],
)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_maps_are_those_of_autograd(kind: Callable[[], nn.Module], call: int, count: int) -> None:
    network = drawn(kind)
    untouched = copy.deepcopy(network) if kind is not KeptByHook else drawn(kind)
    backbone = Backbone(Network(network, "net", "none", preprocess=SMALL))
    assert backbone.identity.layer.startswith("features")
    engine = Engine(backbone, device="cpu", batch_size=3)
    x = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    seen = engine.forward(x)
    classes = seen.logits.argmax(1)
    L = make_method("gradcam", backbone)(engine, seen, classes).cam
    wanted = by_hand(untouched, engine.normalise(x), classes, call)
    assert L is not None
    torch.testing.assert_close(L, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()) + 1e-7)
    assert all(torch.is_tensor(A) for A in getattr(network, "last", []))


class Crops(Base):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.cat([x, x.flip(3)])).reshape(2, len(x), 4).mean(0)


class TokensFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.norm, self.fc = nn.LayerNorm(8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(self.patches(x).flatten(2).permute(2, 0, 1)).mean(0))


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (Crops, r"returns \(2, 8, 8, 8\) for one image: 2 maps, not one"),
        (TokensFirst, r"returns tokens \(16, 1, 8\), with the batch second"),
    ],
)
def test_a_refusal_names_its_own_cause(kind: Callable[[], nn.Module], what: str) -> None:
    with pytest.raises(LcamError, match=what):
        Backbone(Network(drawn(kind), "net", "none", preprocess=SMALL))
