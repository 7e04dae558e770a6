"""Small networks with several kinds of heads, channels and shapes, for tests of methods."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.networks.network import Network


def _trunk(channels: int) -> list[nn.Module]:
    """Two convolutions of stride 2; nothing writes in place. The target layer is ``3``."""
    return [
        nn.Conv2d(channels, 5, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(5, 6, 3, stride=2, padding=1),
        nn.Hardtanh(-1, 1),  # features of both signs
    ]


HEADS: dict[str, Callable[[int], list[nn.Module]]] = {
    "pooled": lambda _: [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)],
    "smooth": lambda cells: [
        nn.Flatten(),
        nn.Linear(6 * cells, 8),
        nn.GELU(),
        nn.Linear(8, 4),
    ],
    "normed": lambda _: [
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.LayerNorm(6),
        nn.Linear(6, 4),
    ],
    "convolved": lambda _: [
        nn.Conv2d(6, 7, 3, padding=1),
        nn.SiLU(),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(7, 4),
    ],
}


def network_of(head: str, size: tuple[int, int] = (32, 32), channels: int = 3) -> nn.Sequential:
    """A network in eval mode, whose weights are large enough that maps differ."""
    cells = (size[0] // 4) * (size[1] // 4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        network = nn.Sequential(*_trunk(channels), *HEADS[head](cells))
        for parameter in network.parameters():
            parameter.data *= 2
    return network.eval()


def engine_of(
    head: str,
    size: tuple[int, int] = (32, 32),
    channels: int = 3,
    layer: str = "3",
    *,
    align: bool = False,
    batch_size: int = 32,
) -> Engine:
    """An engine on the CPU for it; without ``align`` its maps tile the image."""
    preprocess = Preprocess(size, min(size), (0.5,) * channels, (0.25,) * channels)
    network = Network(network_of(head, size, channels), head, "none", preprocess=preprocess)
    backbone = Backbone(network, layer)
    return Engine(backbone, device="cpu", align=align, batch_size=batch_size)


def pictures_of(engine: Engine, count: int = 3) -> torch.Tensor:
    shape = engine.backbone.preprocess.input_shape
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


SHAPES = [((32, 32), 3), ((24, 40), 1)]
"""Sizes and channels: a square in colour, and a rectangle in grey."""

Y = torch.tensor([0, 3, 1])
