"""How often a network runs before its first batch: every pass counts for a large one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lcam_cli.engine.backbone import Backbone, load_backbone
from lcam_cli.engine.engine import Engine
from tests.tiny import tiny_network
from tests.transformers import own_backbone, tiny_vit


def _pictures_seen(network: nn.Module, first: nn.Module) -> tuple[int, Backbone]:
    """Pictures that go through the first layer while a backbone is made, and its grid found."""
    seen = [0]

    def count(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen[0] += len(given[0])

    first.register_forward_pre_hook(count)
    engine = Engine(own_backbone(network), device="cpu")
    assert engine.grid is not None
    return seen[0], engine.backbone


def test_a_networks_start_takes_few_passes() -> None:
    network = tiny_network()
    seen, backbone = _pictures_seen(network, network[0])
    assert backbone.is_split
    assert backbone.differentiable
    assert seen <= 14
    vit = tiny_vit()
    seen, backbone = _pictures_seen(vit, vit.conv_proj)  # type: ignore[arg-type]
    assert backbone.is_split
    assert seen <= 15


def test_where_gradients_end_is_said_all_the_same() -> None:
    class _Rounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features, self.head = tiny_network()[:4], tiny_network()[4:]

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                features = self.features(x)
            return self.head((features * 8).round().detach())

    backbone = load_backbone(_Rounded(), layer="features.3")
    assert not backbone.differentiable
    assert "without gradients" in backbone.gradients_end
