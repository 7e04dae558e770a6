"""W0 by quick ways, against a backward pass a class."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lcam_cli.engine.engine import Engine
from lcam_cli.training import head_gradients as module
from lcam_cli.training.head_gradients import head_gradients
from tests.transformers import own_backbone, tiny_swin, tiny_vit


def _network(*head: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3, stride=4), nn.ReLU(), *head).eval()


def _mlp(features: int) -> list[nn.Module]:
    hidden = nn.Linear(features, 16)
    return [nn.Flatten(), hidden, nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(16, 5)]


class _Around(nn.Module):
    """A way around the linear layer: its columns do not tell all."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, stride=4), nn.Tanh())
        self.hidden, self.out = nn.Linear(6, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.features(x).mean((2, 3))
        return self.out(self.hidden(pooled).relu() + pooled.square())


class _Transposed(nn.Module):
    """Places first, then channels: columns lie in another order."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, stride=4), nn.Tanh())
        self.head = nn.Sequential(nn.Linear(6 * 64, 8), nn.SiLU(), nn.Linear(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).permute(0, 2, 3, 1).flatten(1))


QUICK: dict[str, Callable[[], nn.Module]] = {
    "pooled and flattened": lambda: _network(nn.MaxPool2d(2), *_mlp(96)),
    "overlapping windows": lambda: _network(nn.MaxPool2d(3, 2), *_mlp(54)),
    "adaptive": lambda: _network(nn.AdaptiveAvgPool2d((3, 3)), *_mlp(54)),
    "two layers after the mean": lambda: _network(nn.AdaptiveAvgPool2d(1), *_mlp(6)),
    "swin": tiny_swin,
}
OTHERS: dict[str, Callable[[], nn.Module]] = {
    "around": _Around,
    "transposed": _Transposed,
    "padded means": lambda: _network(nn.AvgPool2d(2, padding=1), *_mlp(150)),
    "a norm first": lambda: _network(nn.LayerNorm([6, 8, 8]), *_mlp(384)),
    "vit": tiny_vit,
}


def _expected(engine: Engine, x: Tensor) -> Tensor:
    """A backward pass a class."""
    forward = engine.forward(x)
    A = forward.A.detach().clone().requires_grad_()
    with torch.enable_grad():
        logits = engine.head(A, forward.around)
        rows = [
            torch.autograd.grad(logits[:, r].sum(), A, retain_graph=True)[0]
            for r in range(logits.shape[1])
        ]
    return torch.stack(rows).mean((1, 3, 4))


@pytest.mark.parametrize("name", [*QUICK, *OTHERS])
def test_all_ways_give_the_gradients_of_every_class(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = {**QUICK, **OTHERS}[name]()
    layer = next((n for n in ("features.1", "1") if n in dict(network.named_modules())), None)
    layer = None if name in ("vit", "swin") else layer
    engine = Engine(own_backbone(network, layer), device="cpu")
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    taken: list[bool] = []
    by_columns = module._by_columns

    def noted(totals: Tensor, A: Tensor, first: module._LinearCall) -> Tensor | None:
        found = by_columns(totals, A, first)
        taken.append(found is not None)
        return found

    monkeypatch.setattr(module, "_by_columns", noted)
    monkeypatch.setattr(module, "_CLASSES_AT_ONCE", 2)
    expected = _expected(engine, x)
    torch.testing.assert_close(
        head_gradients(engine, engine.forward(x)),
        expected,
        rtol=1e-4,
        atol=1e-5 * float(expected.abs().max()),
    )
    assert any(taken) == (name in QUICK)
