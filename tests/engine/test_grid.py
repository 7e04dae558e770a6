"""Where cells lie: worked by hand, and seen in what a cell's gradient reaches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.engine.grid import Grid, find_grid

# By hand: every window adds ((k - 1)/2 - padding)·(the step so far) to the start.
BY_HAND = {
    ("vgg16", "features.29"): Grid(7.5, 16),  # four 2×2 pools: 0.5·(1 + 2 + 4 + 8)
    ("vgg16", "features.30"): Grid(15.5, 32),
    ("resnet18", "layer4"): Grid(0, 32),  # every stride has (k - 1)/2 of padding
    ("mobilenet_v2", "features.18"): Grid(0, 32),
    ("alexnet", "features.11"): Grid(15, 16),  # 11×11 with 2 less: 3; two 3×3 pools without: 4, 8
    ("efficientnet_b0", "features.8"): Grid(0, 32),  # squeeze and excitation has no place
}


@pytest.mark.parametrize(("name", "layer"), BY_HAND)
def test_grids_of_known_networks(name: str, layer: str) -> None:
    assert load_backbone(name, "none", layer=layer).grid == BY_HAND[name, layer]


class _Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 5, stride=2, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.left = nn.Conv2d(2, 2, 3, stride=2, padding=1)
        self.right = nn.Conv2d(2, 2, 1, stride=2)
        self.last = nn.Sequential(nn.Conv2d(2, 2, 3, padding=2, dilation=2), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.stem(x))
        return self.last(self.left(x) + self.right(x)).mean((2, 3))


def test_a_cell_lies_in_the_middle_of_the_pixels_that_reach_it() -> None:
    network = _Blocks()
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.1)  # nothing cancels
    grid = find_grid(network, "last")
    assert grid == Grid(2, 8)
    caught: list[Tensor] = []
    network.last.register_forward_hook(lambda _m, _g, out: caught.append(out))
    # Rising, so that the maximum of each pool is known: the lower right.
    x = torch.arange(128.0).add(torch.arange(128.0)[:, None])[None, None].requires_grad_()
    network(x)
    for cell in (6, 7):
        (g,) = torch.autograd.grad(caught[0][0, 0, cell, cell], x, retain_graph=True)
        seen = g[0, 0].abs().sum(0).nonzero().flatten()
        # A 2×2 maximum sees both, but its gradient goes to the lower right alone: half a step of 2.
        middle = (seen[0] + seen[-1]).item() / 2 - 1
        assert middle == pytest.approx(grid.start + grid.step * cell)


def test_what_is_not_known_gives_no_grid() -> None:
    class Shuffled(_Blocks):
        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.left(self.stem(x)).flip(2)).mean((2, 3))

    class Skewed(_Blocks):
        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.stem(x) + self.stem(x)[:, :, :1]).mean((2, 3))

    assert find_grid(Shuffled(), "last") is None
    assert find_grid(nn.Sequential(nn.Conv2d(1, 1, (3, 5), padding=1)), "0") is None
    assert find_grid(_Blocks(), "nothing") is None
    assert find_grid(Skewed(), "last") is None
