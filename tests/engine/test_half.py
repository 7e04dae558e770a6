"""Half precision: weights are cast once, and whatever way a network is run it gives the same."""

from __future__ import annotations

import os
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lcam_cli.engine import hardware as hardwares
from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.cascade import Cascade
from lcam_cli.engine.curvature import gradient_and_curvature
from lcam_cli.engine.device import Hardware
from lcam_cli.engine.engine import Engine
from lcam_cli.engine.half import distance
from lcam_cli.engine.masked import MaskedForwards
from lcam_cli.engine.taps import tap
from lcam_cli.errors import LcamError
from lcam_cli.methods.registry import make_method
from lcam_cli.networks.network import Network
from lcam_cli.training.learned import masked_logits
from lcam_cli.training.recipes import recipe_for
from tests.engine.test_random_networks import drawn
from tests.tiny import SMALL, tiny_backbone, tiny_network, training_batch

BF16 = 2**-8
COUNT = 300 if os.environ.get("LCAM_FULL") else 30


class WeightCasts(TorchDispatchMode):
    """Counts the casts of a network's weights."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.count = 0
        tensors = [*network.parameters(), *network.buffers()]
        self._weights = {t.data_ptr() for t in tensors if t.numel() > 1}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            self.count += any(torch.is_tensor(a) and a.data_ptr() in self._weights for a in args)
        return func(*args, **(kwargs or {}))


def backbone_of(network: nn.Module, layer: str | None = None) -> Backbone:
    return Backbone(Network(network.eval(), "net", "none", preprocess=SMALL), layer)


def half_engine(network: nn.Module | Backbone, precision: str = "bf16", **kwargs: Any) -> Engine:
    backbone = network if isinstance(network, Backbone) else backbone_of(network, **kwargs)
    return Engine(backbone, device="cpu", precision=precision, batch_size=4)


def pictures(count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(count, 3, 32, 32, generator=generator)
    return x.contiguous(memory_format=torch.channels_last)


@pytest.fixture
def fp16_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command refuses it, because it is slow; the code is CUDA's."""

    def hardware(_device: str = "", precision: str = "", _use: str = "") -> Hardware:
        return Hardware(torch.device("cpu"), precision)

    monkeypatch.setattr(hardwares, "choose_hardware", hardware)


# --- cast once ------------------------------------------------------------------------------------


def test_no_weight_is_cast_while_pictures_run() -> None:
    engine, x = half_engine(tiny_network()), pictures()
    forward = engine.forward(x)
    batch = training_batch(engine, x)
    with WeightCasts(engine.backbone.network) as casts:
        engine.forward(x)
        engine.logits(x)
        engine.feature_gradients(forward, forward.predicted)
        MaskedForwards(engine, x, forward.predicted).scores([(0, torch.rand(5, 32, 32))])
        engine.masked_confidence(x, torch.rand(2, 32, 32), forward.predicted)
        tap(engine, x, ["1", "3"], forward.predicted)
        S = torch.rand(2, 8, 8, requires_grad=True)
        masked_logits(engine, batch, S, None, recipe_for("auto", "tiny")).sum().backward()
    assert casts.count == 0


def test_the_count_of_casts_sees_autocast() -> None:
    network, x = tiny_network(), pictures()
    with WeightCasts(network) as casts, torch.autocast("cpu", torch.bfloat16):
        network(x)
    assert casts.count > 0


def test_only_the_head_and_batch_norms_keep_their_type() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.ReLU(),
        nn.BatchNorm2d(6),  # not behind a convolution: it cannot be folded
        nn.Conv2d(6, 6, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
        nn.Linear(5, 4),
    )
    backbone = half_engine(network, layer="4").backbone
    kinds = {name: t.dtype for name, t in backbone.network.named_parameters()}
    assert {n for n, kind in kinds.items() if kind == torch.bfloat16} == {
        "0.weight", "0.bias", "3.weight", "3.bias",
    }  # fmt: skip
    assert backbone.network[2].running_var.dtype == torch.float32


def test_of_a_large_head_only_the_last_layer_stays_in_float32() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 16, 50),
        nn.ReLU(),
        nn.Linear(50, 4),
    )
    backbone = half_engine(network, layer="1").backbone
    own = backbone.network
    assert own[3].weight.dtype == torch.bfloat16
    assert own[5].weight.dtype == torch.float32
    A = torch.rand(2, 6, 4, 4)
    hidden = (A.flatten(1) @ own[3].weight.float().T + own[3].bias.float()).relu()
    exact = hidden @ own[5].weight.T + own[5].bias
    with backbone.float32_head():  # for small differences
        torch.testing.assert_close(backbone.head(A, ()), exact, rtol=1e-5, atol=1e-6)
    assert own[3].weight.dtype == torch.bfloat16
    assert 1e-5 < distance(backbone.head(A, ()), exact) < 2 * BF16


def test_weights_drawn_anew_in_half_precision_come_back() -> None:
    network = Network(tiny_network(), "net", "none", preprocess=SMALL)
    backbone = Backbone(network, "3", redrawable=True)
    cascade = Cascade(backbone.network, backbone.blank(), 3, 0)
    engine = half_engine(backbone)
    trained = engine.logits(pictures())
    cascade.draw(2)
    assert distance(engine.logits(pictures()), trained) > 0.1
    cascade.draw(0)
    assert torch.equal(engine.logits(pictures()), trained)


def test_half_precision_needs_half_the_memory() -> None:
    def weights(precision: str) -> int:
        network = half_engine(nn.Sequential(nn.Conv2d(3, 64, 9), *tiny_like(64)), precision)
        parameters = network.backbone.network.parameters()
        return sum(p.untyped_storage().nbytes() for p in parameters)

    assert weights("bf16") < 0.55 * weights("fp32")


def tiny_like(channels: int) -> list[nn.Module]:
    pool = nn.AdaptiveAvgPool2d(1)
    return [nn.Conv2d(channels, 64, 3), nn.ReLU(), pool, nn.Flatten(), nn.Linear(64, 4)]


def test_a_backbone_is_not_cast_twice() -> None:
    backbone = tiny_backbone()
    half_engine(backbone)
    half_engine(backbone)  # the same again is fine
    with pytest.raises(LcamError, match="already computes in bf16"):
        half_engine(backbone, "fp32")


def test_an_engine_keeps_its_precision_when_another_is_made() -> None:
    backbone = tiny_backbone()
    engine = half_engine(backbone, "fp32")
    exact = engine.logits(pictures())
    with pytest.raises(LcamError, match="already computes in fp32"):
        half_engine(backbone)
    with backbone.computing_in(torch.bfloat16):  # as a hint does for a while
        assert 0 < distance(engine.logits(pictures()), exact) < 4 * BF16
    assert torch.equal(engine.logits(pictures()), exact)


# --- every way gives the same ---------------------------------------------------------------------


def check_ways(engine: Engine, x: Tensor, exact: Tensor) -> None:
    """Logits by every way are equal, float32, and near those in float32."""
    forward = engine.forward(x)
    mean = forward.logits
    assert forward.A.dtype == mean.dtype == torch.float32
    ways = {
        "logits": engine.logits(x),
        "head": engine.head(forward.A, forward.around),
        "taps": tap(engine, x, []).logits,
    }
    size = float(mean.abs().max())
    for way, logits in ways.items():
        assert logits.dtype == torch.float32
        torch.testing.assert_close(logits, mean, rtol=0, atol=1e-5 * size, msg=way)
    assert distance(mean, exact) < 12 * BF16


@pytest.mark.parametrize(
    "name", ["mobilenet_v3_small", "resnet18", "squeezenet1_1", "shufflenet_v2_x0_5"]
)
def test_torchvision_cnns(name: str) -> None:
    check_family(torchvision.models.get_model(name, num_classes=7))


def test_vit() -> None:
    vit = torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32,
        num_classes=7,
    )  # fmt: skip
    nn.init.normal_(vit.heads.head.weight)
    check_family(vit)


def test_swin() -> None:
    check_family(
        torchvision.models.SwinTransformer([4, 4], 8, [1, 2], [2, 2], [4, 4], num_classes=7)
    )


def check_family(network: nn.Module) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    x = pictures()
    exact = half_engine(network, "fp32").logits(x)
    engine = half_engine(network)
    assert not engine.backbone.notes
    assert not engine.backbone._way.autocast
    check_ways(engine, x, exact)


def test_gradients_and_layers_come_out_in_float32_and_near() -> None:
    x, y = pictures(), torch.tensor([0, 3])
    exact, half = (half_engine(tiny_network(), p, layer="3") for p in ("fp32", "bf16"))
    one, two = (tap(engine, x, ["1", "3"], y) for engine in (exact, half))
    for layer in ("1", "3"):
        for ours, theirs in ((two.outputs, one.outputs), (two.gradients, one.gradients)):
            assert ours[layer].dtype == torch.float32
            # Where a ReLU's input is all but 0, rounding switches a gradient on or off.
            assert distance(ours[layer], theirs[layer]) < 0.12


@pytest.mark.parametrize("seed", range(COUNT))
def test_drawn_networks(seed: int) -> None:
    """As test_random_networks.py, in half precision: near float32, or refused as there."""
    try:
        exact = half_engine(drawn(seed), "fp32")
    except LcamError:
        return
    half, x = half_engine(drawn(seed)), pictures(3)
    one, two = exact.forward(x), half.forward(x)
    for ours, theirs in ((two.logits, one.logits), (two.A, one.A), (half.logits(x), one.logits)):
        assert ours.dtype == torch.float32
        assert distance(ours, theirs) < 0.1
    torch.testing.assert_close(half.head(two.A, two.around), two.logits, rtol=1e-2, atol=1e-2)
    if exact.backbone.differentiable:
        G, H = (e.feature_gradients(f, one.predicted) for e, f in ((exact, one), (half, two)))
        assert H.dtype == torch.float32
        assert float(F.cosine_similarity(G.flatten(), H.flatten(), dim=0)) > 0.85 or not G.any()


# --- networks that mix types ----------------------------------------------------------------------


class Whitened(nn.Module):
    """Multiplies by a matrix that it makes in float32 in each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.body = tiny_network()

    def forward(self, x: Tensor) -> Tensor:
        x = self.body[:2](x)
        x = torch.einsum("kl,blpq->bkpq", torch.eye(5) + 0.1, x)
        logits: Tensor = self.body[2:](x)
        return logits


def test_a_network_that_mixes_types_runs_by_autocast_and_says_so(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    x, network = pictures(), Whitened()
    exact = half_engine(network, "fp32").logits(x)
    network = Whitened()
    half = half_engine(network)
    assert half.backbone._way.autocast
    assert not capfd.readouterr().err  # of the ways that failed
    assert half.backbone.linear_head() is half.backbone.network.body[6]
    check_ways(half, x, exact)
    (said,) = [r.message for r in caplog.records if "autocast" in r.message]
    assert said.startswith("net does not run with all its weights in bf16 (")
    assert half.backbone.network.body[0].weight.dtype == torch.bfloat16  # cast all the same
    with WeightCasts(half.backbone.network) as casts:
        half.forward(x)
    assert casts.count == 0


class Functional(nn.Module):
    """Convolves with a matrix of its own, and has float32 constants."""

    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(6, 3, 3, 3, generator=torch.Generator().manual_seed(0)))
        self.tail = tiny_network()[2:]
        self.conv = nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.W, stride=2).relu() * torch.tensor(0.5)
        logits: Tensor = self.tail(self.conv(x))
        return logits


def test_own_functions_run_without_autocast() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = Functional()
    exact = half_engine(network, "fp32").logits(pictures())
    half = half_engine(network)
    assert not half.backbone._way.autocast
    check_ways(half, pictures(), exact)


def test_torchscript() -> None:
    script = torch.jit.trace(tiny_network().eval(), torch.rand(2, 3, 32, 32))
    exact = half_engine(script, "fp32").logits(pictures())
    half = half_engine(torch.jit.trace(tiny_network().eval(), torch.rand(2, 3, 32, 32)))
    logits = half.logits(pictures())
    assert logits.dtype == torch.float32
    assert distance(logits, exact) < 4 * BF16


class Gated(nn.Module):
    """Weighs channels by a quantised layer, which takes float32 alone."""

    def __init__(self) -> None:
        super().__init__()
        self.body = tiny_network()
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            torch.manual_seed(0)
            warnings.simplefilter("ignore")  # it is deprecated, and in use
            gate = nn.Sequential(nn.Linear(5, 5), nn.Sigmoid())
            self.gate = torch.ao.quantization.quantize_dynamic(gate, {nn.Linear})

    def forward(self, x: Tensor) -> Tensor:
        x = self.body[:2](x)
        logits: Tensor = self.body[2:](x * self.gate(x.mean((2, 3)))[:, :, None, None])
        return logits


def test_a_quantised_layer_is_given_float32() -> None:
    exact = half_engine(Gated(), "fp32").logits(pictures())
    engine = half_engine(Gated())
    assert not engine.backbone._way.autocast
    assert engine.backbone.network.body[2].weight.dtype == torch.bfloat16
    assert distance(engine.logits(pictures()), exact) < 4 * BF16


# --- fp16 -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("fp16_on_cpu")
def test_small_gradients_do_not_vanish_in_fp16() -> None:
    """Gradients of 1e-8, which float16 does not hold, come out of a head that runs in it."""

    def network(size: float) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = nn.Sequential(
                nn.Conv2d(3, 6, 3, stride=8),
                nn.ReLU(),
                nn.Conv2d(6, 6, 1),
                nn.Tanh(),
                nn.Flatten(),
                nn.Linear(6 * 16, 50),
                nn.ReLU(),
                nn.Linear(50, 4),
            )
        with torch.no_grad():
            net[7].weight.mul_(size)
        return net

    x, y = pictures(), torch.tensor([0, 1])
    found = []
    for precision in ("fp32", "fp16"):
        engine = half_engine(network(1e-6), precision, layer="3")
        forward = engine.forward(x)
        taps = tap(engine, x, ["1"], y)
        found.append((engine.feature_gradients(forward, y), taps.gradients["1"]))
    for exact, half in zip(*found, strict=True):
        assert half.dtype == torch.float32
        assert float(exact.abs().max()) < 1e-6
        assert distance(half, exact) < 0.02


@pytest.mark.usefixtures("fp16_on_cpu")
def test_it_is_said_where_a_precision_does_not_suit(caplog: pytest.LogCaptureFixture) -> None:
    class Small(nn.Module):
        """Computes with numbers of 1e-9, which float16 does not hold."""

        def __init__(self) -> None:
            super().__init__()
            self.body = tiny_network()
            self.conv = nn.Conv2d(5, 5, 1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.body[2:](self.conv(1e-9 * self.body[:2](x)) * 1e9)
            return logits

    half_engine(Small(), "bf16")
    assert not caplog.records
    half_engine(Small(), "fp16")
    (said,) = caplog.records
    assert said.message.startswith("fp16 does not suit net: it changes features or logits by ")


@pytest.mark.usefixtures("fp16_on_cpu")
def test_fp16_trains_through_the_network() -> None:
    x, gradients = pictures(), []
    for precision in ("fp32", "fp16"):
        engine = half_engine(tiny_network(), precision, layer="3")
        batch = training_batch(engine, x)
        S = torch.full((2, 8, 8), 0.5, requires_grad=True)
        logits = masked_logits(engine, batch, S, None, recipe_for("auto", "tiny"))
        assert logits.dtype == torch.float32
        (1e-5 * logits[:, 0].sum()).backward()
        gradients.append(S.grad)
    assert distance(gradients[1], gradients[0]) < 0.03


# --- methods --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    ["gradcam", "gradcam++", "layercam", "scorecam", "ablationcam", "rise", "sidu", "groupcam"],
)
def test_methods_draw_nearly_the_same(method: str) -> None:
    x, maps = pictures(), []
    y = torch.tensor([0, 2])
    for precision in ("fp32", "bf16"):
        engine = half_engine(tiny_network(), precision, layer="3")
        made = make_method(method, engine.backbone)
        found = made(engine, engine.forward(x), y)
        V = found.saliency
        assert V.dtype == torch.float32
        maps.append(V.flatten())
    assert float(torch.corrcoef(torch.stack(maps))[0, 1]) > 0.99


@pytest.mark.usefixtures("fp16_on_cpu")
def test_second_gradients_are_not_scaled_away_in_fp16() -> None:
    own = nn.Sequential(*tiny_network()[:4], nn.GELU(), nn.Flatten(), nn.Linear(6 * 64, 4))
    x, y = pictures(), torch.tensor([0, 1])
    found = []
    for precision in ("fp32", "fp16"):
        engine = half_engine(own, precision, layer="3")
        found.append(gradient_and_curvature(engine, engine.forward(x), y))
    for exact, half in zip(*found, strict=True):
        assert float(exact.norm()) > 1e-4
        assert distance(half, exact) < 0.02


@pytest.mark.usefixtures("fp16_on_cpu")
def test_a_batch_in_fp32_is_so_at_other_layers_too() -> None:
    x = pictures()
    exact = half_engine(tiny_network(), "fp32", layer="3").at("1").forward(x)
    engine = half_engine(tiny_network(), "fp16", layer="3")
    before = engine.at("1").forward(x).A
    assert 0 < distance(before, exact.A) < 0.01
    with engine.in_fp32("p"):
        assert distance(engine.at("1").forward(x).A, exact.A) < 1e-6
    assert torch.equal(engine.at("1").forward(x).A, before)
