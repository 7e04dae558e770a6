"""The split where values go around the layer: same logits and gradients, and nothing twice."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.engine.calls import Call
from lcam_cli.engine.engine import Engine
from lcam_cli.engine.split import split
from tests.tiny import tiny_backbone
from tests.transformers import own_backbone, tiny_swin, tiny_vit


class _Residual(nn.Module):
    """A value goes around `inner`, and is changed in place behind it; so does a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, stride=4), nn.Tanh())
        self.inner = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(inplace=True))
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 0.5, 3.0]))
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        inner = self.inner(x)
        x += inner.square()
        return self.fc(x.mean((2, 3)) * self.scale)


class _ByValue(_Residual):
    """The number of values that go around depends on no image: they are not batch first."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        everywhere = x.mean((0, 1), keepdim=True)
        return self.fc((self.inner(x) * everywhere).mean((2, 3)))


def _seeded(module: type[nn.Module]) -> nn.Module:
    torch.manual_seed(3)
    return module().eval().requires_grad_(False)


CUTS = {
    "vit": (tiny_vit, None),
    "vit block": (tiny_vit, "encoder.layers.encoder_layer_1"),
    "vit norm in the middle": (tiny_vit, "encoder.layers.encoder_layer_1.ln_2"),
    "swin": (tiny_swin, None),
    "swin norm within a block": (tiny_swin, "features.3.1.norm2"),
    "residual": (lambda: _seeded(_Residual), "inner"),
}


@pytest.mark.parametrize("name", CUTS)
def test_the_head_gives_the_whole_networks_logits_and_gradients(name: str) -> None:
    build, layer = CUTS[name]
    backbone = own_backbone(build(), layer)
    assert backbone.is_split
    network = backbone.network
    engine = Engine(backbone, device="cpu", batch_size=3)
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    classes = torch.tensor([1, 0, 3])
    seen = engine.forward(x)

    caught: list[Tensor] = []
    target = network.get_submodule(backbone.identity.layer)
    handle = target.register_forward_hook(
        lambda _m, _g, out: caught.append(out.clone()) or caught[-1]
    )
    with torch.enable_grad():
        whole = network(engine.normalise(x).requires_grad_())
    handle.remove()
    (g,) = torch.autograd.grad(whole.gather(1, classes[:, None]).sum(), caught[-1])

    torch.testing.assert_close(seen.logits, whole.detach(), rtol=0, atol=1e-5)
    torch.testing.assert_close(engine.head(seen.A, seen.around), whole, rtol=0, atol=1e-5)
    ours = engine.feature_gradients(seen, classes)
    assert ours.abs().max() > 1e-3
    torch.testing.assert_close(ours, backbone._cut.layout.to_maps(g), rtol=1e-4, atol=1e-5)
    # What was kept is as it was, whatever the head does in place.
    torch.testing.assert_close(engine.head(seen.A, seen.around), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", CUTS)
def test_nothing_before_the_layer_runs_or_is_differentiated_for_gradients(name: str) -> None:
    build, layer = CUTS[name]
    backbone = own_backbone(build(), layer)
    engine = Engine(backbone, device="cpu")
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    ran: list[str] = []
    leaves = [
        (n, m) for n, m in backbone.network.named_modules() if not any(True for _ in m.children())
    ]
    for n, m in leaves:
        m.register_forward_hook(lambda _m, _g, _out, n=n: ran.append(n))
    seen = engine.forward(x)
    in_order, ran[:] = list(ran), []
    assert not any(t.requires_grad for t in (seen.A, *seen.around))
    engine.feature_gradients(seen, torch.tensor([0, 1]))
    # The forward pass ended with what the head ran, and ran the layer right before it.
    assert ran == in_order[len(in_order) - len(ran) :]
    assert in_order[-len(ran) - 1].startswith(backbone.identity.layer)


def test_what_is_not_batch_first_is_not_handed_over() -> None:
    backbone = own_backbone(_seeded(_ByValue), "inner")
    assert not backbone.is_split
    x = torch.rand(2, 3, 32, 32)
    A, logits, around = backbone.forward(x)
    torch.testing.assert_close(backbone.head(A, around), logits)


def test_nothing_is_kept_where_nothing_goes_around() -> None:
    for backbone in (tiny_backbone(), own_backbone(tiny_swin())):
        *_, around = backbone.forward(torch.rand(2, 3, 32, 32))
        assert around == ()


def test_a_single_picture_of_a_batch_keeps_what_goes_around() -> None:
    engine = Engine(own_backbone(tiny_vit()), device="cpu")
    seen = engine.forward(torch.rand(3, 3, 32, 32))
    alone = seen.only(slice(2, 3))
    torch.testing.assert_close(engine.head(alone.A, alone.around), seen.logits[2:])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_b_32", "swin_t", "swin_v2_t", "maxvit_t"])
def test_transformers_of_torchvision_are_split(name: str) -> None:
    backbone = load_backbone(name, "none")
    assert backbone.is_split


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "deit_tiny_patch16_224", "swin_tiny_patch4_window7_224"]
)
def test_transformers_of_timm_are_split(name: str) -> None:
    pytest.importorskip("timm")
    assert load_backbone(f"timm/{name}", "none").is_split


class _ComparesTypes(nn.Module):
    """Asks for types, as Hugging Face's do, and gives an index into a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4, 5)
        self.register_buffer("order", torch.tensor([1, 0, 2, 3]))
        self.branches_on_values = False

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != self.features.weight.dtype:
            x = x.to(self.features.weight.dtype)
        if x.shape[1] != 3:
            raise ValueError("channels")
        A = self.features(x)
        if self.branches_on_values and A.max() == A.min():
            A = A + 1
        logits: Tensor = self.head(A.mean((2, 3))[:, self.order])
        return logits


def test_a_network_that_compares_types_is_cut_and_one_that_compares_values_is_not() -> None:
    torch.manual_seed(0)
    network = _ComparesTypes().eval()
    picture = torch.randn(1, 3, 16, 16)
    halves = split(network, Call("features", 0), picture)
    assert halves is not None
    A, *around = halves[0](picture)
    torch.testing.assert_close(halves[1](A, *around), network(picture))
    network.branches_on_values = True
    assert split(network, Call("features", 0), picture) is None
