"""Networks drawn at random: each is explained as plain autograd does, or refused in one line.

The reference hooks the layer that lcam names in an untouched copy of the network, and
differentiates through the whole of it. Nothing there is cut, folded, or traced.
"""

from __future__ import annotations

import copy
import os
import random
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.methods.registry import make_method
from lcam_cli.networks.network import Network
from tests.tiny import SMALL

FULL = bool(os.environ.get("LCAM_FULL"))
COUNT = 300 if FULL else 30
CLASSES = 4
STEPS = [
    *("conv", "conv bn", "norm", "relu", "own", "functional relu", "in place relu", "max"),
    *("average", "residual", "around", "cat", "se", "map", "shared", "loop", "drop"),
    *("ignored", "added"),
]
HEADS = [
    *("linear", "two", "two shared", "weights", "buffer", "functional", "cosine"),
    *("conv after", "conv before", "attention", "max", "quantised", "other", "wrapped"),
]


class SqueezeExcite(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(width, 2, 1), nn.Conv2d(2, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.up(self.down(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class Residual(nn.Module):
    def __init__(self, width: int, in_place: bool) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=in_place)
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn(self.conv(x))
        if self.in_place:
            out += x
        else:
            out = out + x
        return self.relu(out)


class Attention(nn.Module):
    """A map that weighs places."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.map = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.map(x).sigmoid()


class Drawn(nn.Module):
    """A network of random steps; ``told`` says which."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = random.Random(seed)
        width = draw.choice([6, 8])
        self.told: list[str] = []
        self.steps: list[str] = []
        self.parts = nn.ModuleList()
        self.relu = nn.ReLU(inplace=draw.random() < 0.3)  # for all that share one
        self.shared = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.Tanh())
        self.control = draw.choice(["", "", "", "size", "size", "value", "count"])
        self.silent = draw.choice(["", "", "", "", "features", "everything", "inference"])
        self.outputs = 1 + (draw.random() < 0.05)
        self.keeps_gradients = False  # the reference's
        self.add(draw, "conv", nn.Conv2d(3, width, 3, stride=2, padding=1))
        for _ in range(draw.randint(2, 7)):
            self.add_any(draw, width)
        if draw.random() < 0.5:
            self.add(draw, "conv", nn.Conv2d(width, width, 3, padding=1))
            self.add(draw, draw.choice(["relu", "functional relu"]), nn.Identity())
        self.head = draw.choice(HEADS)
        hidden = 10
        if self.head in ("two", "two shared", "quantised"):
            self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, CLASSES)
        elif self.head in ("conv after", "conv before"):
            self.fc = nn.Conv2d(width, CLASSES, 1)
        elif self.head == "buffer":
            self.register_buffer("W", torch.randn(CLASSES, width))
        elif self.head in ("weights", "functional", "cosine"):
            self.W = nn.Parameter(torch.randn(CLASSES, width))
        elif self.head == "wrapped":
            self.fc = nn.Sequential(nn.Sequential(nn.Linear(width, CLASSES)))
        else:
            self.fc = nn.Linear(width, CLASSES)
        if self.head == "attention":
            self.look = nn.Conv2d(width, 1, 1)
        self.told += [self.head, self.control, self.silent]

    def add(self, draw: random.Random, step: str, part: nn.Module) -> None:
        self.steps.append(step)
        self.parts.append(part)
        self.told.append(step)

    def add_any(self, draw: random.Random, width: int) -> None:
        step = draw.choice(STEPS)
        part: nn.Module = nn.Identity()
        if step == "conv":
            part = nn.Conv2d(width, width, 3, padding=1)
        elif step == "conv bn":
            part = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width))
        elif step == "norm":
            part = draw.choice([nn.BatchNorm2d(width), nn.GroupNorm(2, width)])
        elif step == "own":
            kind = draw.choice([nn.ReLU, nn.Hardswish, nn.SiLU, nn.ReLU6])
            part = kind(inplace=draw.random() < 0.5)
        elif step in ("ignored", "added"):
            part = draw.choice([nn.ReLU, nn.SiLU, nn.Hardswish])(inplace=True)
        elif step in ("residual", "around"):
            part = Residual(width, draw.random() < 0.5)
        elif step == "cat":
            part = nn.Conv2d(2 * width, width, 1)
        elif step == "se":
            part = SqueezeExcite(width)
        elif step == "map":
            part = Attention(width)
        elif step == "max":
            part = nn.MaxPool2d(2)
        elif step == "drop":
            part = nn.Dropout(0.5)
        self.add(draw, step, part)

    def features(self, x: Tensor) -> Tensor:  # noqa: PLR0912
        for step, part in zip(self.steps, self.parts, strict=True):
            if step == "relu":
                x = self.relu(x)
            elif step == "functional relu":
                x = F.relu(x)
            elif step == "in place relu":
                x = F.leaky_relu(x + 0, 0.1, inplace=True)
            elif step in ("max", "average"):
                if self.small(x):
                    x = part(x) if step == "max" else F.avg_pool2d(x, 2)
            elif step == "around":
                x = x + part(x).sigmoid()
            elif step == "ignored":  # what counts is what it changes
                x = x + 0
                part(x)
            elif step == "added":  # in place, so that both are what it gives
                x = x + 0
                x = x + part(x)
            elif step == "cat":
                x = part(torch.cat([x, x.square()], 1))
            elif step == "shared":
                x = self.shared(x)
            elif step == "loop":
                times = 2
                if self.control == "count":
                    times = 2 + int(x.mean() > 0)
                for _ in range(times):
                    x = self.shared(x) + 0.5 * x
            else:
                x = part(x)
        return x

    def small(self, x: Tensor) -> bool:
        """So few pools that four cells are left: by counting, so that it can be traced."""
        self.pools += 1
        return self.pools <= 2

    def classify(self, A: Tensor) -> Tensor:  # noqa: PLR0911
        if self.head == "conv before":
            return self.relu(self.fc(A) + 1).mean((2, 3))
        if self.head == "conv after":
            return torch.flatten(self.fc(F.adaptive_avg_pool2d(A, 1)), 1)
        if self.head == "attention":
            weights = self.look(A).flatten(2).softmax(2)
            return self.fc((A.flatten(2) * weights).sum(2))
        pooled = A.amax((2, 3)) if self.head == "max" else A.mean((2, 3))
        if self.head in ("two", "quantised"):
            return self.fc2(torch.tanh(self.fc1(pooled)))
        if self.head == "two shared":
            return self.fc2(self.relu(self.fc1(pooled) + 1))
        if self.head == "weights":
            return pooled @ self.W.t()
        if self.head in ("functional", "buffer"):
            return F.linear(pooled, self.W)
        if self.head == "cosine":
            return 10 * F.linear(F.normalize(pooled), F.normalize(self.W))
        return self.fc(pooled)

    def forward(self, x: Tensor) -> Tensor:
        self.pools = 0
        if self.control == "size" and (x.shape[2] % 4 or x.size(3) % 4):
            raise ValueError("sides must be multiples of 4")
        if self.control == "value" and x.isnan().any():
            x = x.nan_to_num()
        if self.silent == "" or self.keeps_gradients:
            A = self.features(x)
            logits = self.classify(A)
        elif self.silent == "features":
            with torch.no_grad():
                A = self.features(x)
            logits = self.classify(A)
        else:
            off = torch.no_grad if self.silent == "everything" else torch.inference_mode
            with off():
                A = self.features(x)
                logits = self.classify(A)
        return logits if self.outputs == 1 else (logits, A)


def drawn(seed: int) -> Drawn:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Drawn(seed).eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.2, 0.2)
                nn.init.uniform_(module.running_var, 0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 1.5)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                nn.init.normal_(module.bias, std=0.1)
        if network.head == "quantised":
            torch.ao.quantization.quantize_dynamic(
                network, {nn.Linear}, dtype=torch.qint8, inplace=True
            )
    return network.requires_grad_(False)


def logits_of(network: nn.Module, x: Tensor) -> Tensor:
    given = network(x)
    return given if torch.is_tensor(given) else given[0]


def plain(network: nn.Module, layer: str, x: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """A and G by hooks and autograd alone, of the layer's last call that gives features."""
    calls: list[Tensor] = []

    def keep(_module: nn.Module, _given: object, output: Tensor) -> Tensor:
        calls.append(output)
        return output.clone()  # what follows may change it in place

    handle = network.get_submodule(layer).register_forward_hook(keep)
    with torch.enable_grad():
        logits = logits_of(network, x.clone().requires_grad_() * 1)
    handle.remove()
    spatial = [t for t in calls if t.ndim == 4 and t.shape[2] > 1]
    # One ReLU may run on features, then on maps of class scores.
    features = [t for t in spatial if t.shape[1] not in (1, CLASSES)]
    A = (features or spatial)[-1]
    (G,) = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), A)
    return A.detach(), G


def expected_maps(A: Tensor, G: Tensor) -> dict[str, Tensor]:
    """L of three methods, as their papers define them."""
    a = G**2 / (2 * G**2 + G**3 * A.sum((2, 3), keepdim=True) + 1e-6)
    plus = (a * G.relu()).sum((2, 3), keepdim=True)
    return {
        "gradcam": (G.mean((2, 3), keepdim=True) * A).sum(1).relu(),
        "gradcam++": (plus * A).sum(1).relu(),
        "layercam": (G.relu() * A).sum(1).relu(),
    }


def check(seed: int, layer: str | None = None) -> str:
    """Check one network: ``"split"`` or ``"whole"`` as it was explained, or how it was refused."""
    network = drawn(seed)
    untouched = copy.deepcopy(network)
    untouched.keeps_gradients = True
    try:
        backbone = Backbone(Network(network, f"net{seed}", "none", preprocess=SMALL), layer)
    except LcamError as error:
        assert "\n" not in error.what  # noqa: PT017
        return f"refused: {error.what}"
    # All at once: a quantised network's range of values is that of its batch.
    engine = Engine(backbone, device="cpu", batch_size=3)
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    given = engine.normalise(x)
    seen = engine.forward(x)
    with torch.no_grad():
        logits = logits_of(untouched, given.clone())
        again = engine.head(seen.A, seen.around)
    size = float(logits.abs().max())
    for ours in (seen.logits, again, engine.logits(x)):
        torch.testing.assert_close(ours, logits, rtol=0, atol=1e-4 * size)
    classes = logits.argmax(1)
    try:
        methods = [make_method(name, backbone) for name in ("gradcam", "gradcam++", "layercam")]
    except LcamError as error:
        assert "needs gradients" in error.what  # noqa: PT017
        assert network.head == "quantised" or network.silent == "inference"
        make_method("scorecam", backbone)(engine, seen, classes)
        return "without gradients"
    try:
        A, G = plain(untouched, backbone.identity.layer, given, classes)
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)  # noqa: PT017
        return "plain autograd fails"
    torch.testing.assert_close(seen.A, A, rtol=0, atol=1e-4 * float(A.abs().max()))
    expected = expected_maps(A, G)
    # Grad-CAM++ divides by what may be all but zero: as much as rounding does to it is allowed.
    rounded = expected_maps(A, G * (1 + 1e-6 * torch.randn_like(G)))
    for method in methods:
        L, wanted = method(engine, seen, classes).cam, expected[method.name]
        assert L is not None
        least = 1e-4 * float(wanted.abs().max()) + 1e-7
        least += 100 * float((rounded[method.name] - wanted).abs().max())
        torch.testing.assert_close(L, wanted, rtol=0, atol=least)
    return "split" if backbone.is_split else "whole"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_random_networks_are_explained_right_or_refused() -> None:
    found: Counter[str] = Counter()
    named: Counter[str] = Counter()
    for seed in range(COUNT):
        names = [name for name, _ in drawn(seed).named_modules() if name]
        layer = random.Random(seed).choice(names)
        for given, results in ((None, found), (layer, named)):
            try:
                results[check(seed, given).replace(f"net{seed} ", "")] += 1
            except Exception as error:
                told = ", ".join(drawn(seed).told)
                raise AssertionError(f"network {seed}, layer {given}: {told}") from error
    print(f"\nfound automatically: {dict(found)}\nnamed: {dict(named)}")
    explained = sum(n for how, n in found.items() if not how.startswith("refused"))
    assert explained >= 0.85 * COUNT
