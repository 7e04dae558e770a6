"""Which layer is found, which of its calls, and what is said of one that counts for nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model

from lcam_cli.engine.engine import Engine
from lcam_cli.engine.layers import find_target
from lcam_cli.engine.stages import stage_ends
from lcam_cli.engine.taps import tap
from lcam_cli.errors import LcamError
from lcam_cli.methods.registry import METHODS, make_method
from lcam_cli.training.loop import TrainingSettings, train
from lcam_cli.training.recipes import Mode, recipe_for
from tests.tiny import tiny_backbone, write_pictures
from tests.transformers import own_backbone, tiny_vit

Y = torch.tensor([1, 0, 3])
OF_TRANSFORMERS = [name for name, entry in METHODS.items() if entry.attention]


def pictures() -> Tensor:
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return build().eval()


# The layers of torchvision's families, on images so small that the check is cheap.
FAMILIES = {
    "resnet18": "layer4",
    "densenet121": "features.norm5",
    "googlenet": "inception5b",
    "squeezenet1_1": "features.12",
    "mobilenet_v2": "features.18",
    "mobilenet_v3_small": "features.12",
    "shufflenet_v2_x0_5": "conv5",
    "mnasnet0_5": "layers.16",
    "efficientnet_b0": "features.8",
    "regnet_y_400mf": "trunk_output",
    "convnext_tiny": "features.7",
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", FAMILIES)
def test_the_layer_of_each_family_stays(name: str) -> None:
    network = seeded(lambda: get_model(name)).requires_grad_(False)
    picture = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    assert find_target(network, picture).call.name == FAMILIES[name]


class Trunk(nn.Module):
    """Four layers of features, and a head that each subclass makes its own way."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3, stride=2, padding=1),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.features(x))

    def classify(self, A: Tensor) -> Tensor:
        raise NotImplementedError


class Linear(Trunk):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(8, 9), nn.ReLU(), nn.Linear(9, 4))

    def classify(self, A: Tensor) -> Tensor:
        return self.fc(A.mean((2, 3)))


class Weights(Trunk):
    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(4, 8))

    def classify(self, A: Tensor) -> Tensor:
        return A.mean((2, 3)) @ self.W.t()


class Cosine(Weights):
    def classify(self, A: Tensor) -> Tensor:
        return 16 * F.linear(F.normalize(A.mean((2, 3))), F.normalize(self.W))


class Buffer(Trunk):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("W", torch.randn(4, 8))

    def classify(self, A: Tensor) -> Tensor:
        return F.linear(A.amax((2, 3)), self.W)


class ConvBefore(Trunk):
    """As SqueezeNet: maps of class scores, then their average."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Sequential(nn.Conv2d(8, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    def classify(self, A: Tensor) -> Tensor:
        return self.classifier(A + 0.1).flatten(1)


class LogConvBefore(ConvBefore):
    def classify(self, A: Tensor) -> Tensor:
        return super().classify(A).log_softmax(1)


class ConvAfter(Trunk):
    def __init__(self) -> None:
        super().__init__()
        self.pool, self.conv = nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 4, 1)

    def classify(self, A: Tensor) -> Tensor:
        return self.conv(self.pool(A)).flatten(1)


class AttentionPool(Trunk):
    """Places are weighed by a map of one channel before they are added up."""

    def __init__(self) -> None:
        super().__init__()
        self.look, self.fc = nn.Conv2d(8, 1, 1), nn.Linear(8, 4)

    def classify(self, A: Tensor) -> Tensor:
        weights = self.look(A).flatten(2).softmax(2)
        return self.fc((A.flatten(2) * weights).sum(2))


class Unused(Linear):
    """The last features that are computed lead nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.aside = nn.Conv2d(8, 8, 3, padding=1)

    def classify(self, A: Tensor) -> Tensor:
        self.aside(A)
        return super().classify(A)


class Zero(Linear):
    """Begins with a classifier of zeros, as vision transformers do."""

    def __init__(self) -> None:
        super().__init__()
        nn.init.zeros_(self.fc[2].weight)


class Rounded(Linear):
    """Gradients behind the layer are zero everywhere."""

    def classify(self, A: Tensor) -> Tensor:
        return super().classify((A * 100).round())


class Quantised(Linear):
    def __init__(self) -> None:
        super().__init__()
        torch.ao.quantization.quantize_dynamic(self, {nn.Linear}, dtype=torch.qint8, inplace=True)


HEADS = [Linear, Weights, Cosine, Buffer, ConvBefore, LogConvBefore, ConvAfter, AttentionPool]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("kind", [*HEADS, Unused, Zero, Rounded, Quantised])
def test_a_head_of_any_kind_leaves_the_last_features(kind: type[nn.Module]) -> None:
    network = seeded(kind)
    backbone = own_backbone(network)
    assert backbone.identity.layer == "features.3"
    x = pictures()
    A, logits, around = backbone.forward(x)
    torch.testing.assert_close(A, network.features(x))
    torch.testing.assert_close(logits, network(x))
    torch.testing.assert_close(backbone.head(A, around), logits)


def test_one_layer_of_features_is_enough() -> None:
    network = seeded(lambda: nn.Sequential(nn.Conv2d(3, 5, 8, 8), nn.Flatten(), nn.Linear(80, 4)))
    assert own_backbone(network).identity.layer == "0"


# --- modules that run several times ---------------------------------------------------------------


class Shared(nn.Module):
    """One ReLU and one pool for everything, also for the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 5, 3, padding=1)
        self.conv2 = nn.Conv2d(5, 6, 3, padding=1)
        self.conv3 = nn.Conv2d(6, 8, 3, padding=1)
        self.relu, self.pool = nn.ReLU(), nn.MaxPool2d(2)
        self.fc1, self.fc2 = nn.Linear(8, 9), nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.conv1(x)))
        x = self.pool(self.relu(self.conv2(x)))
        x = self.relu(self.conv3(x))
        return self.fc2(self.relu(self.fc1(x.mean((2, 3))) + 1))


class SharedChecked(Shared):
    def forward(self, x: Tensor) -> Tensor:
        B, _, H, _ = x.shape
        if H % 4 or x.size(3) % 4 or x.dim() != 4:
            raise ValueError("sides must be multiples of 4")
        return super().forward(x).view(B, -1)


class SharedByValue(Shared):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.isfinite().all() else x.nan_to_num())


@pytest.mark.parametrize("kind", [SharedChecked, SharedByValue])
@pytest.mark.parametrize(
    "method", [n for n in METHODS if n not in ("rise", "cam", "random", *OF_TRANSFORMERS)]
)
def test_a_shared_module_is_its_call_on_features(kind: type[nn.Module], method: str) -> None:
    x = pictures()
    maps = []
    for network in (seeded(Shared), seeded(kind)):
        backbone = own_backbone(network)
        assert backbone.identity.layer == "relu"
        assert backbone.feature_shape == (8, 8, 8)
        assert backbone.is_split == (kind is not SharedByValue or type(network) is Shared)
        engine = Engine(backbone, device="cpu", align=False)  # one cannot be traced
        seen = engine.forward(x)
        maps.append(make_method(method, backbone)(engine, seen, Y).saliency)
    assert maps[0].std() > 0.01
    torch.testing.assert_close(maps[1], maps[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [Shared, SharedChecked, SharedByValue])
def test_the_same_call_is_named_watched_and_tapped(kind: type[nn.Module]) -> None:
    network, x = seeded(kind), pictures()
    with torch.no_grad():
        first = F.max_pool2d(network.conv1(x).relu(), 2)
        second = F.max_pool2d(network.conv2(first).relu(), 2)
    backbone = own_backbone(network, "relu")
    assert backbone.feature_shape == (8, 8, 8)
    assert backbone.shapes_of(["conv2", "pool"]) == [(6, 16, 16), (6, 8, 8)]
    assert stage_ends(backbone) == {"conv1": 5, "conv2": 6, "relu": 8}
    with torch.no_grad(), backbone.watch(["pool", "conv2"]) as caught:
        backbone.forward(x)
    torch.testing.assert_close(caught["pool"], second)
    torch.testing.assert_close(caught["conv2"], network.conv2(first))
    engine = Engine(backbone, device="cpu")
    taps = tap(engine, x, ["pool", "relu"], Y)
    with torch.no_grad():
        given = engine.normalise(x)
        pooled = F.max_pool2d(network.conv1(given).relu(), 2)
        pooled = F.max_pool2d(network.conv2(pooled).relu(), 2)
    torch.testing.assert_close(taps.outputs["pool"], pooled)
    seen = engine.forward(x)
    torch.testing.assert_close(taps.outputs["relu"], seen.A)
    torch.testing.assert_close(taps.gradients["relu"], engine.feature_gradients(seen, Y))


class Recurrent(nn.Module):
    """One block, run once more where the image is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 4, 4)
        self.block = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.Tanh())
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.alone(one[None]) for one in x])

    def alone(self, x: Tensor) -> Tensor:
        bright = bool(x.mean() > 0)
        x = self.stem(x)
        for _ in range(2 + bright):
            x = x + self.block(x)
        return self.fc(x.mean((2, 3)))


def test_a_layer_that_runs_a_different_number_of_times() -> None:
    network = seeded(Recurrent)
    alone = seeded(Recurrent)
    alone.forward = alone.alone
    backbone = own_backbone(alone)
    assert backbone.identity.layer == "block"
    assert not backbone.is_split
    dark, bright = torch.full((1, 3, 32, 32), -0.5), torch.full((1, 3, 32, 32), 0.5)
    rows = [backbone.forward(x) for x in (dark, bright)]
    A = torch.cat([row[0] for row in rows])
    around = [torch.cat(t) for t in zip(*(row[2] for row in rows), strict=True)]
    assert around[1].tolist() == [1, 2]
    together = network(torch.cat([dark, bright]))
    torch.testing.assert_close(backbone.head(A, around), together)
    # Only the last call's output is put back: by hand, for the bright one.
    x = network.stem(bright)
    for _ in range(2):
        x = x + network.block(x)
    by_hand = network.fc((x + 3 * A[1:]).mean((2, 3)))
    torch.testing.assert_close(backbone.head(3 * A, around)[1:], by_hand)


# --- nothing wrong is silent ----------------------------------------------------------------------


def test_patches_behind_the_last_attention_are_refused() -> None:
    for layer in ("encoder.layers.encoder_layer_2.mlp", "encoder.ln"):
        with pytest.raises(LcamError, match="do not change the logits") as caught:
            own_backbone(tiny_vit(), layer)
        assert caught.value.what == (
            f"the patches at layer {layer} do not change the logits; "
            "the last that do: encoder.layers.encoder_layer_2.ln_1"
        )
    with pytest.raises(LcamError, match=r"feature maps at layer aside do not .*: features\.3\n"):
        own_backbone(seeded(Unused), "aside")


def test_a_layer_that_does_not_run_is_told() -> None:
    network = seeded(Linear)
    network.spare = nn.Conv2d(8, 8, 1)
    with pytest.raises(LcamError, match="layer 'spare' does not run"):
        own_backbone(network, "spare")


def test_a_module_with_two_names_has_the_first() -> None:
    network = seeded(Linear)
    network.last = network.features[3]
    assert own_backbone(network, "last").identity.layer == "features.3"


class Chance(Linear):
    def classify(self, A: Tensor) -> Tensor:
        return super().classify(A + torch.randn(len(A), 8, 1, 1))


def test_logits_by_chance_are_refused() -> None:
    with pytest.raises(LcamError, match="different logits each time") as caught:
        own_backbone(seeded(Chance), "features.3")
    assert "random" in caught.value.hint


class OldWeightNorm(Trunk):
    """A convolution whose weights are made anew in every call, before a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.features[2] = nn.utils.weight_norm(self.features[2])
        self.features.insert(3, nn.BatchNorm2d(8))
        self.features[3].running_var.fill_(3.0)
        self.fc = nn.Linear(8, 4)

    def classify(self, A: Tensor) -> Tensor:
        return self.fc(A.mean((2, 3)))


class LooksAtStatistics(OldWeightNorm):
    """Reads what folding takes away."""

    def __init__(self) -> None:
        super().__init__()
        self.features[2] = nn.Conv2d(6, 8, 3, stride=2, padding=1)

    def classify(self, A: Tensor) -> Tensor:
        return super().classify(A) + self.features[3].running_var.mean()


class AroundInPlace(Linear):
    """What an in-place activation changed is read beside what it gave."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.Hardswish(inplace=True)

    def classify(self, A: Tensor) -> Tensor:
        B = A - 1
        return super().classify(self.act(B) + B)


class ReturnIgnored(AroundInPlace):
    def classify(self, A: Tensor) -> Tensor:
        B = A - 1
        self.act(B)
        return self.fc(B.mean((2, 3)))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", [OldWeightNorm, LooksAtStatistics, AroundInPlace, ReturnIgnored])
def test_what_makes_networks_quick_never_changes_them(kind: type[nn.Module]) -> None:
    untouched, x = seeded(kind), pictures()
    backbone = own_backbone(seeded(kind))
    A, logits, around = backbone.forward(x)
    torch.testing.assert_close(logits, untouched(x))
    torch.testing.assert_close(backbone(x.clone()), untouched(x))
    leaf = A.detach().clone().requires_grad_()
    torch.testing.assert_close(backbone.head(leaf, around), untouched(x))
    (ours,) = torch.autograd.grad(backbone.head(leaf, around)[:, 1].sum(), leaf)
    caught: list[Tensor] = []
    layer = untouched.get_submodule(backbone.identity.layer)
    layer.register_forward_hook(lambda _m, _g, out: caught.append(out))
    logits = untouched(x.clone().requires_grad_() * 1)
    (plain,) = torch.autograd.grad(logits[:, 1].sum(), caught[-1])
    torch.testing.assert_close(ours, plain)


# --- gradients ------------------------------------------------------------------------------------


class Silent(Linear):
    """Gradients are switched off within, and a value is looked at, which keeps it from a trace."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(x if x.isfinite().all() else x.nan_to_num())


class Inference(Linear):
    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] % 4:
            raise ValueError("sides must be multiples of 4")
        return super().forward(x)


class InferenceByValue(Linear):
    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.isfinite().all() else x.nan_to_num())


@pytest.mark.parametrize("kind", [Silent, Inference])
@pytest.mark.parametrize("method", ["gradcam", "layercam", "ablationcam", "groupcam"])
def test_gradients_that_a_network_switches_off_are_there(
    kind: type[nn.Module], method: str
) -> None:
    maps = []
    for network in (seeded(Linear), seeded(kind)):
        backbone = own_backbone(network)
        engine = Engine(backbone, device="cpu", align=False)  # these cannot be traced
        maps.append(make_method(method, backbone)(engine, engine.forward(pictures()), Y).saliency)
    assert maps[0].std() > 0.01
    torch.testing.assert_close(maps[1], maps[0], rtol=0, atol=1e-5)


BEST = "use reciprocam; these methods also work: "
OTHERS = ["ablationcam", "eigencam", "groupcam", "occlusion", "rise", "scorecam", "sidu"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    ("kind", "end"),
    [(Quantised, r"they end at fc\.0 \(Linear\)"), (InferenceByValue, "forward")],
)
def test_without_gradients_methods_that_need_none_are_named(
    kind: type[nn.Module], end: str
) -> None:
    backbone = own_backbone(seeded(kind))
    assert not backbone.differentiable
    engine = Engine(backbone, device="cpu")
    seen = engine.forward(pictures())
    works = []
    for name, entry in METHODS.items():
        if entry.gradients:
            with pytest.raises(
                LcamError, match=f"needs gradients, .* features.3: .*{end}"
            ) as caught:
                make_method(name, backbone)
            assert caught.value.hint.startswith(BEST)
            assert sorted(caught.value.hint.removeprefix(BEST).split(", ")) == OTHERS
        elif entry.picture_gradients or entry.attention:
            continue  # of the image, and of transformers: their own tests
        elif name not in ("cam", "rise", "occlusion", "random"):
            works.append(name)
            assert make_method(name, backbone)(engine, seen, Y).saliency.isfinite().all()
    assert works == ["eigencam", "ablationcam", "reciprocam", "scorecam", "groupcam", "sidu"]
    with pytest.raises(LcamError, match="needs gradients"):
        engine.feature_gradients(seen, Y)


def test_which_methods_need_gradients() -> None:
    backbone = tiny_backbone()
    engine = Engine(backbone, device="cpu")
    seen = engine.forward(pictures())
    for name, entry in METHODS.items():
        if name == "rise":  # thousands of passes
            assert not entry.gradients
            continue
        if entry.attention:  # of transformers alone
            continue
        made = make_method(name, backbone)
        with patch.object(torch.autograd, "grad", wraps=torch.autograd.grad) as grad:
            made(engine, seen, Y)
        # Group-CAM takes them where there are any.
        needs = entry.gradients or entry.picture_gradients or name == "groupcam"
        assert grad.called == needs, name


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("mode", ["img", "fm", "bla"])
def test_training_without_gradients_is_refused_at_once(mode: Mode, tmp_path: Path) -> None:
    engine = Engine(own_backbone(seeded(Quantised)), device="cpu")
    settings = TrainingSettings(mode=mode, recipe=recipe_for("auto", "own", mode))
    with pytest.raises(LcamError, match=f"training in mode {mode} needs gradients"):
        train(engine, write_pictures(tmp_path / "p", 2), tmp_path / "run", settings)
