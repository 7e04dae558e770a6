"""Gradients at layers of networks whose own code changes in place what they need."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.engine.taps import tap
from lcam_cli.methods.registry import make_method
from lcam_cli.networks.network import Network
from tests.tiny import SMALL


class Net(nn.Module):
    """Two stages; behind each ReLU its own code goes on, in place or not."""

    def __init__(self, in_place: bool, functional: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 5, 3, stride=2, padding=1)
        self.inner = nn.Conv2d(5, 5, 3, padding=1)
        self.second = nn.Conv2d(5, 6, 3, stride=2, padding=1)
        self.relu = nn.ReLU()
        self.last = nn.Linear(6, 4)
        self.in_place, self.functional = in_place, functional

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.inner(x)
        y = F.relu(y) if self.functional else self.relu(y)
        if self.in_place:
            y += x
        else:
            y = y + x
        out: Tensor = self.last(self.second(y).mean((2, 3)))
        return out


def engine_of(in_place: bool, functional: bool) -> Engine:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        network = Net(in_place, functional).eval()
    return Engine(Backbone(Network(network, "own", "none", preprocess=SMALL), "second"))


@pytest.mark.parametrize("functional", [False, True])
@pytest.mark.parametrize("name", ["sise", "adasise", "refinecam"])
def test_a_result_that_is_written_to_changes_no_map(name: str, functional: bool) -> None:
    x = torch.rand(2, *SMALL.input_shape, generator=torch.Generator().manual_seed(1))
    maps = []
    for in_place in (False, True):
        engine = engine_of(in_place, functional)
        forward = engine.forward(x)
        method = make_method(name, engine.backbone)
        maps.append(method(engine, forward, torch.tensor([0, 3])).saliency)
    torch.testing.assert_close(maps[1], maps[0])
    assert maps[0].any()


def test_gradients_are_those_of_the_same_network_written_otherwise() -> None:
    x = torch.rand(2, *SMALL.input_shape, generator=torch.Generator().manual_seed(1))
    first, second = (
        tap(engine_of(in_place, False), x, ["first", "second"], torch.tensor([0, 3]))
        for in_place in (False, True)
    )
    for layer in ("first", "second"):
        torch.testing.assert_close(second.gradients[layer], first.gradients[layer])
        torch.testing.assert_close(second.outputs[layer], first.outputs[layer])
