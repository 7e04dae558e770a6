"""Drawing a network's weights anew, from the last layers down."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torchvision.ops import FrozenBatchNorm2d

from lcam_cli.engine.backbone import Backbone, load_backbone
from lcam_cli.engine.cascade import Cascade, group_layers
from lcam_cli.engine.engine import Engine
from lcam_cli.engine.layer_order import layers_in_order
from lcam_cli.errors import LcamError
from lcam_cli.networks.network import Network
from tests.programs import export
from tests.tiny import SMALL, tiny_network
from tests.transformers import tiny_swin, tiny_vit

PICTURES = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))


class WithNorms(nn.Module):
    """Convolutions with batch norms, a residual between them, and layers that are never run."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.unused = nn.Linear(4, 4)
            self.head = nn.Linear(6, 4)
            self.last = nn.Sequential(
                nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU()
            )
            self.stem = nn.Sequential(
                nn.Conv2d(3, 6, 3, stride=4, bias=False), nn.BatchNorm2d(6), nn.ReLU()
            )
            for norm in (self.last[1], self.stem[1]):
                nn.init.normal_(norm.running_mean, std=0.1)
                nn.init.uniform_(norm.running_var, 0.5, 2)
                nn.init.uniform_(norm.weight, 0.5, 2)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.last(x)
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def redrawable(module: nn.Module) -> Backbone:
    return Backbone(Network(module, "own", "none:seed=7", preprocess=SMALL), redrawable=True)


def test_layers_stand_in_the_order_of_use_and_those_not_run_are_left_out() -> None:
    found = layers_in_order(WithNorms(), PICTURES[:1])
    assert list(found.parameters) == ["stem.0", "stem.1", "last.0", "last.1", "head"]
    assert found.parameters["stem.1"] == ["weight", "bias"]
    assert found.fixed == []


def test_an_attention_s_projection_and_a_class_token_have_their_place() -> None:
    found = list(layers_in_order(tiny_vit(), PICTURES[:1]).parameters)
    block = "encoder.layers.encoder_layer_1"
    assert found[:2] == ["conv_proj", ""], "the class token is the network's own"
    projection = found.index(f"{block}.self_attention.out_proj")
    assert found.index(f"{block}.self_attention") < projection < found.index(f"{block}.mlp.0")
    assert found[-1] == "heads.head"


def test_stages_are_of_as_many_layers_and_called_by_their_ends() -> None:
    layers = ["head.1", "b.3.conv", "b.2.norm", "b.2.conv", "b.1.conv", "a"]
    stages = group_layers(layers, 4)
    assert [stage.layers for stage in stages] == [
        ("head.1", "b.3.conv"),
        ("b.2.norm", "b.2.conv"),
        ("b.1.conv",),
        ("a",),
    ]
    assert [stage.name for stage in stages] == ["head to b.3", "b.2", "b.1", "a"]
    assert [stage.name for stage in group_layers(layers, 1)] == ["head to a"]
    split = group_layers(layers, 2)
    assert [stage.name for stage in split] == ["head to b.2.norm", "b.2.conv to a"]
    assert len(group_layers(layers, 8)) == 6


def by_hand(drawn: int, seed: int) -> nn.Module:
    """The cascade in plain PyTorch: the last ``drawn`` of five layers, and their statistics."""
    network = WithNorms()
    layers = [
        network.head,
        *reversed([*network.stem[:2], *network.last[:2]]),
    ]
    torch.manual_seed(seed)
    for layer in layers[:drawn]:
        layer.reset_parameters()  # type: ignore[operator]
    for norm in (network.stem[1], network.last[1]):
        if norm in layers[:drawn]:
            taken: list[Tensor] = []
            handle = norm.register_forward_hook(lambda _m, x, _y: taken.append(x[0]))  # noqa: B023
            network((PICTURES - 0.5) / 0.25)
            handle.remove()
            norm.running_mean = taken[0].mean((0, 2, 3))
            norm.running_var = taken[0].var((0, 2, 3))
    return network


@pytest.mark.parametrize("stages", [5, 2])
@torch.no_grad()
def test_the_cascade_is_that_made_by_hand(stages: int) -> None:
    backbone = redrawable(WithNorms())
    cascade = Cascade(backbone.network, backbone.blank(), stages, seed=11)
    engine = Engine(backbone, device="cpu")
    engine._mean, engine._std = torch.tensor(0.5), torch.tensor(0.25)
    sizes = list(itertools.accumulate(len(stage.layers) for stage in cascade.stages))
    for count, drawn in [(0, 0), *enumerate(sizes, 1)]:
        cascade.draw(count)
        if not cascade.is_fitted:
            cascade.fit(lambda: engine.forward(PICTURES))
        with torch.random.fork_rng(devices=[]):
            expected = by_hand(drawn, 11)((PICTURES - 0.5) / 0.25)
        assert torch.allclose(engine.forward(PICTURES).logits, expected, atol=1e-6), count
        assert torch.allclose(engine.logits(PICTURES), expected, atol=1e-6)


def script() -> nn.Module:
    scripted: nn.Module = torch.jit.trace(WithNorms(), PICTURES)
    return scripted


@pytest.mark.parametrize("make", [WithNorms, tiny_network, tiny_vit, tiny_swin, script])
@torch.no_grad()
def test_the_engine_runs_on_the_weights_drawn_at_every_stage(
    make: Callable[[], nn.Module],
) -> None:
    given = make()
    before = [tensor.clone() for tensor in given.state_dict().values()]
    backbone = redrawable(given)
    cascade = Cascade(backbone.network, backbone.blank(), 8, seed=0)
    engine = Engine(backbone, device="cpu")
    trained = engine.forward(PICTURES)
    earlier = trained.logits
    for count in range(1, len(cascade.stages) + 1):
        cascade.draw(count)
        if not cascade.is_fitted:
            cascade.fit(lambda: engine.forward(PICTURES))
        found = engine.forward(PICTURES)
        other = make().eval()  # never seen by the engine
        state = backbone.network.state_dict().values()
        other.load_state_dict(dict(zip(other.state_dict(), state, strict=True)))
        expected = other(engine.normalise(PICTURES))
        assert torch.allclose(found.logits, expected, rtol=1e-4, atol=1e-5), count
        assert found.logits.isfinite().all()
        assert found.logits.std(0).max() > 0, "a network that says nothing of its pictures"
        assert not torch.equal(found.logits, earlier), count
        earlier = found.logits
    cascade.draw(0)
    again = engine.forward(PICTURES)
    assert torch.equal(again.logits, trained.logits)
    assert torch.equal(again.A, trained.A)
    after = given.state_dict().values()
    assert all(map(torch.equal, before, after)), "the caller's network is its own"
    assert not any(m._forward_pre_hooks for m in backbone.network.modules())


@torch.no_grad()
def test_an_exported_program_is_drawn_anew_too(tmp_path: Path) -> None:
    path = export(WithNorms(), tmp_path / "net.pt2")
    backbone = load_backbone(str(path), redrawable=True)
    cascade = Cascade(backbone.network, backbone.blank(), 3, seed=0)
    assert [stage.name for stage in cascade.stages] == [
        "head to last.1",
        "last.0 to stem.1",
        "stem.0",
    ]
    engine = Engine(backbone, device="cpu")
    trained = engine.forward(PICTURES).logits
    cascade.draw(3)
    cascade.fit(lambda: engine.forward(PICTURES))
    drawn = engine.forward(PICTURES).logits
    assert not torch.allclose(drawn, trained, atol=1e-2)
    assert torch.allclose(drawn, backbone.network(engine.normalise(PICTURES)), atol=1e-6)


@torch.no_grad()
def test_a_picture_without_numbers_spoils_no_statistics() -> None:
    backbone = redrawable(WithNorms())
    cascade = Cascade(backbone.network, backbone.blank(), 8, seed=0)
    engine = Engine(backbone, device="cpu")
    cascade.draw(5)
    cascade.fit(lambda: engine.forward(PICTURES[1:]))
    expected = engine.logits(PICTURES)
    again = Cascade(redrawable(WithNorms()).network, backbone.blank(), 8, seed=0)
    again.draw(5)
    spoilt = PICTURES.clone()
    spoilt[0, 0, 0, 0] = torch.nan
    again.fit(lambda: again.network(engine.normalise(spoilt)))
    found = again.network(engine.normalise(PICTURES))
    assert torch.allclose(found, expected, atol=1e-6)


def test_a_layer_gets_the_same_weights_whatever_the_stages_and_others_with_another_seed() -> None:
    def state(stages: int, seed: int) -> list[Tensor]:
        network = WithNorms().requires_grad_(False)
        cascade = Cascade(network, PICTURES[:1], stages, seed)
        cascade.draw(len(cascade.stages))
        return [network.head.weight, network.stem[0].weight, network.last[0].weight]

    random_state = torch.get_rng_state()
    assert all(map(torch.equal, state(8, 0), state(1, 0)))
    assert not any(map(torch.equal, state(8, 0), state(8, 1)))
    assert torch.equal(torch.get_rng_state(), random_state)


class Scaled(nn.Module):
    """A layer of the user's own, without ``reset_parameters``; it holds another layer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(1, 3, 300))
        self.inner = nn.Linear(300, 4)

    def reset_parameters(self) -> None:
        """Draws the layer inside, which is another stage's, too."""
        self.inner.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(x * self.scale)
        return logits


class Asking(nn.Linear):
    """Its ``reset_parameters`` wants to be told something, once it is made."""

    def reset_parameters(self, *given: object) -> None:
        if hasattr(self, "ready"):
            self.weight.zero_()
            raise TypeError("how?")
        super().reset_parameters()


def test_weights_that_have_no_reset_are_drawn_with_their_own_mean_and_spread() -> None:
    asking = Asking(3, 300)
    asking.ready = True  # type: ignore[assignment]
    shared = nn.Linear(4, 4)
    network = nn.Sequential(
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), asking, Scaled(), weight_norm(nn.Linear(4, 4))),
        *(shared, nn.ReLU(), shared),
    )
    network.eval().requires_grad_(False)
    layers = layers_in_order(network, PICTURES[:1]).parameters
    assert list(layers) == [
        *("2", "3", "3.inner", "4.parametrizations.weight", "4", "5"),
    ]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    cascade = Cascade(network, PICTURES[:1], 8, seed=0)
    assert all(torch.equal(before[n], value) for n, value in network.state_dict().items())
    cascade.draw(4)  # down to the layer inside
    assert torch.equal(network.state_dict()["3.scale"], before["3.scale"])
    cascade.draw(len(cascade.stages))
    after = network.state_dict()
    assert not any(torch.equal(after[name], before[name]) for name in before)
    for name in ("2.weight", "3.scale"):
        assert float(after[name].mean()) == pytest.approx(float(before[name].mean()), abs=0.1)
        assert float(after[name].std()) == pytest.approx(float(before[name].std()), rel=0.15)
    cascade.draw(0)
    assert all(torch.equal(before[n], value) for n, value in network.state_dict().items())


def test_a_network_without_weights_is_refused() -> None:
    frozen = torch.jit.freeze(torch.jit.script(tiny_network().eval()))
    with pytest.raises(LcamError, match="none of this network's weights can be randomised"):
        Cascade(frozen, PICTURES[:1], 8, seed=0)


def test_what_is_no_parameter_is_told() -> None:
    frozen = nn.Sequential(nn.Conv2d(3, 6, 3), FrozenBatchNorm2d(6), *tiny_network()[4:])
    frozen.eval().requires_grad_(False)
    cascade = Cascade(frozen, PICTURES[:1], 8, seed=0)
    assert cascade.notes == ["numbers that are not parameters are not randomised: those of 1"]
    assert [stage.name for stage in cascade.stages] == ["4", "0"]


class Unwatchable(nn.Module):
    """Refuses what is not a plain tensor under no mode."""

    def __init__(self) -> None:
        super().__init__()
        self.network = tiny_network()

    def forward(self, x: Tensor) -> Tensor:
        if torch._C._len_torch_dispatch_stack():
            raise RuntimeError("I am watched")
        logits: Tensor = self.network(x)
        return logits


def test_a_network_that_cannot_be_watched_is_refused_in_a_line() -> None:
    with pytest.raises(
        LcamError,
        match="lcam cannot follow the operations of this network: RuntimeError: I am watched",
    ):
        Cascade(Unwatchable().eval(), PICTURES[:1], 8, seed=0)
