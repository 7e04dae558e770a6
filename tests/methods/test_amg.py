"""AMG's gates against a slow transcription, its loss, and its file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.methods.amg import Amg, Gates, weighted_features
from lcam_cli.methods.attention import min_max
from lcam_cli.methods.attention_file import AttentionSettings, load_attention, save_attention
from lcam_cli.training.amg import GatesModule
from lcam_cli.training.recipes import recipe_for
from lcam_cli.training.step import backward
from tests.tiny import SMALL, tiny_backbone


def _module(seed: int = 3) -> GatesModule:
    """With gates that have left their start."""
    module = GatesModule(6, seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data.normal_(0, 0.3, generator=generator)
    module.down.bias.data += 1  # so that the only hidden unit is at work
    return module


def _gates(seed: int = 3) -> Gates:
    return _module(seed).fold()


@pytest.fixture
def engine() -> Engine:
    return Engine(tiny_backbone(), device="cpu")


@pytest.fixture
def x() -> Tensor:
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def _written_out(engine: Engine, X: Tensor, y: int, gates: dict[str, Tensor]) -> Tensor:
    """L of one image, channel by channel and position by position."""
    net = engine.backbone.network
    A = net[:4](engine.normalise(X[None]))[0].clone()
    K, P, Q = A.shape
    # The head is pooling and one linear layer: the gradient is W[y]/(P·Q) everywhere.
    F_k = [net[6].weight[y, k] / (P * Q) * A[k] for k in range(K)]
    size = (sum((f**2).sum() for f in F_k) / (K * P * Q)).sqrt()
    F_k = [f / size for f in F_k]

    def mlp(values: list[Tensor]) -> list[Tensor]:
        hidden = [
            torch.relu(sum(row[k] * values[k] for k in range(K)) + c)
            for row, c in zip(gates["down"], gates["down_bias"], strict=True)
        ]
        return [
            sum(w * h for w, h in zip(row, hidden, strict=True)) + c
            for row, c in zip(gates["up"], gates["up_bias"], strict=True)
        ]

    mean, largest = mlp([f.mean() for f in F_k]), mlp([f.max() for f in F_k])
    gated = [f * torch.sigmoid(m + g) for f, m, g in zip(F_k, mean, largest, strict=True)]
    stacked = torch.stack(gated)
    around = F.pad(torch.stack([stacked.mean(0), stacked.amax(0)]), (3, 3, 3, 3))
    L = torch.zeros(P, Q)
    for p in range(P):
        for q in range(Q):
            seen = (around[:, p : p + 7, q : q + 7] * gates["place"][0]).sum()
            at = sum(f[p, q] for f in gated) * torch.sigmoid(seen + gates["place_bias"][0])
            L = L + F.pad(at.view(1, 1), (q, Q - q - 1, p, P - p - 1))
    return L


def test_maps_are_those_of_the_equations_for_any_class(engine: Engine, x: Tensor) -> None:
    seen, gates = engine.forward(x), _gates()
    classes = torch.tensor([0, 3, 1])
    maps = Amg(gates, {})(engine, seen, classes)
    for X, y, L in zip(x, classes, maps.cam, strict=True):
        expected = _written_out(engine, X, int(y), gates.tensors()).detach()
        torch.testing.assert_close(L, expected, atol=1e-4, rtol=1e-4)


def test_the_loss_is_eq6_on_the_masked_picture(engine: Engine, x: Tensor) -> None:
    module, recipe = _module(), recipe_for("auto", "tiny", "amg")
    terms = backward(engine, module, x, recipe, "amg")
    gates = {n: t.requires_grad_(True) for n, t in module.fold().tensors().items()}
    total = torch.zeros(())
    net = engine.backbone.network
    start, step = engine.backbone.grid.start[0], engine.backbone.grid.step[0]
    for X in x:
        y = int(net(engine.normalise(X[None])).argmax())
        L = _written_out(engine, X, y, gates)
        S = (L - L.min()) / (L.max() - L.min())
        places = [min(max((pixel - start) / step, 0), 7) for pixel in range(32)]
        low = [min(int(place), 6) for place in places]
        part = torch.tensor([place - i for place, i in zip(places, low, strict=True)])
        rows = S[low] * (1 - part[:, None]) + S[[i + 1 for i in low]] * part[:, None]
        mask = rows[:, low] * (1 - part) + rows[:, [i + 1 for i in low]] * part
        ce = -torch.log_softmax(net(engine.normalise((X * mask)[None]))[0], 0)[y]
        total = total + (2.5 * S.mean() + ce) / len(x)
    total.backward()
    assert float(terms["loss"]) == pytest.approx(total.item(), rel=1e-4)
    for name, parameter in module._gates().tensors().items():
        torch.testing.assert_close(parameter.grad, gates[name].grad, rtol=1e-3, atol=1e-5)


def test_a_run_begins_as_gradcam(engine: Engine, x: Tensor) -> None:
    seen = engine.forward(x)
    y = seen.predicted
    L = GatesModule(6, 3).fold()(weighted_features(engine, seen, y))
    alpha = engine.feature_gradients(seen, y).mean((2, 3))
    expected = min_max(torch.einsum("bk,bkpq->bpq", alpha, seen.A))
    torch.testing.assert_close(min_max(L), expected, atol=1e-5, rtol=0)


def test_features_without_any_weight_give_zeros(engine: Engine, x: Tensor) -> None:
    seen = engine.forward(x)
    seen.A.zero_()
    assert (weighted_features(engine, seen, seen.predicted) == 0).all()


def test_the_file_and_lies_in_it(tmp_path: Path) -> None:
    path = tmp_path / "attention.safetensors"
    identity = tiny_backbone().identity
    settings = AttentionSettings(identity, ["a", "b", "c", "d"], SMALL, {"mode": "amg"})
    save_attention(path, _gates(), settings)
    read = load_attention(path).attention
    assert isinstance(read, Gates)
    assert all(torch.equal(t, _gates().tensors()[n]) for n, t in read.tensors().items())
    for name in ("down", "up_bias", "place"):
        lying = _gates()
        setattr(lying, name, torch.ones(2, 3))
        save_attention(path, lying, settings)
        with pytest.raises(LcamError, match=r"needs down \(M, K\)"):
            load_attention(path)
