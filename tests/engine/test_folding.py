"""Folding changes how a network computes, not what."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from lcam_cli.engine.folding import fold_batch_norms


def _lively(network: nn.Module) -> nn.Module:
    """Give batch norms statistics that make a difference."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.1, generator=generator)
    return network.eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count"),
    [("resnet18", 20), ("mobilenet_v2", 52), ("densenet121", 59), ("vgg11", 0), ("googlenet", 57)],
)
def test_the_outputs_stay(name: str, count: int) -> None:
    torch.manual_seed(0)
    options = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    network = _lively(get_model(name, weights=None, **options))
    x = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        before = network(x)
        assert fold_batch_norms(network) == count
        torch.testing.assert_close(network(x), before, rtol=1e-3, atol=1e-4)


class _Shared(nn.Module):
    """One convolution that two norms read, and one norm that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.one, self.two = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.first, self.second = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.twice = nn.BatchNorm2d(4)
        self.last = nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        x = self.one(x) + self.two(x)
        x = self.twice(self.first(x)) + self.twice(self.second(x))
        return self.norm(self.last(x))


def test_what_is_shared_or_the_target_layer_is_left_alone() -> None:
    torch.manual_seed(0)
    network, x = _lively(_Shared()), torch.rand(2, 3, 5, 5)
    with torch.no_grad():
        before, inner = network(x), network.last(torch.ones(1, 4, 5, 5))
        assert fold_batch_norms(network, keep="last") == 0
        assert torch.equal(network.last(torch.ones(1, 4, 5, 5)), inner)
        assert fold_batch_norms(network) == 1
        torch.testing.assert_close(network(x), before)
