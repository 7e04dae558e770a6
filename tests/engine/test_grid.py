"""Where cells lie: worked by hand, and seen in what a cell's gradient reaches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.engine.calls import Call
from lcam_cli.engine.grid import Grid, find_grids
from lcam_cli.methods.attention import upsample
from tests.transformers import own_backbone, tiny_swin, tiny_vit

# By hand: every window adds ((k - 1)/2 - padding)·(the step so far) to the start.
BY_HAND = {
    ("vgg16", "features.29"): Grid(7.5, 16),  # four 2×2 pools: 0.5·(1 + 2 + 4 + 8)
    ("vgg16", "features.30"): Grid(15.5, 32),
    ("resnet18", "layer4"): Grid(0, 32),  # every stride has (k - 1)/2 of padding
    ("mobilenet_v2", "features.18"): Grid(0, 32),
    ("alexnet", "features.11"): Grid(15, 16),  # 11×11 with 2 less: 3; two 3×3 pools without: 4, 8
    ("efficientnet_b0", "features.8"): Grid(0, 32),  # squeeze and excitation has no place
    ("shufflenet_v2_x0_5", "conv5"): Grid(0, 32),
    ("convnext_tiny", "features.7"): Grid(15.5, 32),  # 4×4, then three 2×2: 1.5 + 2 + 4 + 8
    # Seven 3×3 without padding, at steps of 1, 2, 2, 4, 4, 8 and 16.
    ("inception_v3", "Mixed_7c"): Grid(37, 32),
}


def find_grid(network: nn.Module, layer: str, picture: Tensor) -> Grid | None:
    (grid,) = find_grids(network, [Call(layer)], picture)
    return grid


def _picture(side: int = 224, channels: int = 3, device: str = "cpu") -> Tensor:
    return torch.zeros(1, channels, side, side, device=device)


def _without_values(name: str) -> nn.Module:
    """A network of torchvision's; to make its first values takes seconds."""
    # Inception with the preprocessing that its own weights have.
    options = {"transform_input": True} if name == "inception_v3" else {}
    with torch.device("meta"):
        return get_model(name, **options).eval()


@pytest.mark.parametrize(("name", "layer"), BY_HAND)
def test_grids_of_known_networks(name: str, layer: str) -> None:
    side = 299 if name == "inception_v3" else 224
    picture = _picture(side, device="meta")
    assert find_grid(_without_values(name), layer, picture) == BY_HAND[name, layer]


def test_a_backbone_knows_its_grid() -> None:
    backbone = load_backbone("resnet18", "none", layer="layer3")
    assert backbone.grid == Grid(0, 16)
    assert backbone.grid_of("layer4") == Grid(0, 32)


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
    grid = find_grid(network, "last", _picture(128, 1))
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
        assert middle == pytest.approx(grid.start[0] + grid.step[0] * cell)


class _Same(nn.Conv2d):
    """A convolution padded as TensorFlow's: by what its input's size lacks, less of it ahead."""

    def forward(self, input: Tensor) -> Tensor:
        lacking = [
            max((-(-side // s) - 1) * s + k - side, 0)
            for side, k, s in zip(input.shape[-2:], self.kernel_size, self.stride, strict=True)
        ]
        (top, bottom), (left, right) = ((n // 2, n - n // 2) for n in lacking)
        padded = nn.functional.pad(input, (left, right, top, bottom))
        return nn.functional.conv2d(padded, self.weight, self.bias, self.stride)


@pytest.mark.parametrize("side", [64, 63])
def test_cells_behind_padding_that_depends_on_sizes(side: int) -> None:
    network = nn.Sequential(
        _Same(3, 4, 3, stride=2), nn.ReLU(), _Same(4, 4, 5, stride=2), nn.ReLU()
    )
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.1)  # nothing cancels
    x = torch.rand(1, 3, side, side, requires_grad=True)
    grid = find_grid(network, "3", x.detach())
    assert grid is not None
    (g,) = torch.autograd.grad(network(x)[0, 0, 4, 4], x)
    reached = g[0].abs().sum((0, 1)).nonzero().flatten()
    assert (reached[0] + reached[-1]).item() / 2 == grid.start[0] + grid.step[0] * 4
    assert grid == (Grid(3, 4) if side == 64 else Grid(2, 4))


class _Resized(nn.Module):
    """Sees any rectangle as a square of 48×48."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(2, 2, 3, stride=4, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        square = nn.functional.interpolate(x, (48, 48), mode="bilinear")
        out: Tensor = self.last(square)
        return out


RECTANGLES: dict[str, tuple[Callable[[], nn.Module], tuple[int, int], float]] = {
    # Of 63 rows TensorFlow's padding lacks another number than of 96 columns.
    "padded by its size": (
        lambda: nn.Sequential(_Same(2, 2, 3, stride=2), _Same(2, 2, 5, stride=2)), (63, 96), 0,
    ),
    "strides that differ": (
        lambda: nn.Sequential(nn.Conv2d(2, 2, 3, (2, 1), 1), nn.Conv2d(2, 2, (3, 5), (2, 4))),
        (60, 90),
        0,
    ),
    "resized to a square": (_Resized, (96, 144), 0.5),
    "one row of cells": (lambda: nn.Sequential(nn.Conv2d(2, 2, (24, 4), (24, 4))), (24, 80), 0),
}  # fmt: skip


@pytest.mark.parametrize("what", RECTANGLES)
def test_cells_of_rectangles_by_their_gradients(what: str) -> None:
    build, size, room = RECTANGLES[what]
    network = build()
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.1)
    x = torch.rand(1, 2, *size, requires_grad=True)
    last = [name for name, _ in network.named_children()][-1]
    grid = find_grid(network, last, x.detach())
    assert grid is not None
    out = network(x)
    for axis in (0, 1):
        cells = out.shape[2 + axis]
        cell = cells // 2
        line = (
            out[0, 0, cell, out.shape[3] // 2] if axis == 0 else out[0, 0, out.shape[2] // 2, cell]
        )
        (g,) = torch.autograd.grad(line, x, retain_graph=True)
        reached = g[0].abs().sum((0, 2 - axis)).nonzero().flatten()
        middle = (reached[0] + reached[-1]).item() / 2
        assert middle == pytest.approx(grid.start[axis] + grid.step[axis] * cell, abs=room)
        assert cells > 1 or grid.step[axis] == size[axis]


@pytest.mark.parametrize(
    ("name", "layer"), [("tf_efficientnet_lite0", "bn2"), ("tf_mobilenetv3_small_100", "blocks")]
)
def test_timms_networks_from_tensorflow(name: str, layer: str) -> None:
    timm = pytest.importorskip("timm")
    network = timm.create_model(name, pretrained=False).eval()
    # 3 or 5 pixels wide at strides of 2, and one pixel less of padding ahead than behind.
    assert find_grid(network, layer, _picture()) == Grid(31, 32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layer", "cell"),
    [
        ("inception_v3", "Mixed_6a", 8),
        ("shufflenet_v2_x0_5", "stage2", 14),
        ("convnext_tiny", "features.2", 14),
        ("googlenet", "inception4a", 6),
    ],
)
def test_cells_of_whole_networks_lie_where_their_gradients_reach(
    name: str, layer: str, cell: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = 299 if name == "inception_v3" else 224
    grid = find_grid(_without_values(name), layer, _picture(side, device="meta"))
    assert grid is not None
    network = _without_values(name).double().to_empty(device="cpu")
    for values in network.state_dict().values():  # constant, where that leaves something
        nn.init.normal_(values) if name == "convnext_tiny" else values.fill_(0.01)
    for module in network.modules():
        if isinstance(module, nn.MaxPool2d):  # its gradient goes to one pixel alone
            module.forward = partial(_average, module)
    monkeypatch.setattr(nn.functional, "max_pool2d", nn.functional.avg_pool2d)
    caught: list[Tensor] = []

    def stop(_module: nn.Module, _given: object, output: Tensor) -> None:
        caught.append(output)
        raise _ReachedLayerError

    network.get_submodule(layer).register_forward_hook(stop)
    x = torch.rand(1, 3, side, side, dtype=torch.float64).requires_grad_()
    with contextlib.suppress(_ReachedLayerError):
        network(x)
    (g,) = torch.autograd.grad(caught[0][0, :, cell, cell].square().sum(), x)
    for axis in (0, 1):
        seen = g[0].abs().sum((0, 2 - axis)).nonzero().flatten()
        assert seen[0] > 0
        assert seen[-1] < side - 1, "reaches the image's edge: choose an earlier layer"
        middle = (seen[0] + seen[-1]).item() / 2
        assert middle == pytest.approx(grid.start[0] + grid.step[0] * cell)


class _ReachedLayerError(Exception):
    """Ends a forward pass at the layer."""


def _average(pool: nn.MaxPool2d, x: Tensor) -> Tensor:
    return nn.functional.avg_pool2d(
        x, pool.kernel_size, pool.stride, pool.padding, ceil_mode=pool.ceil_mode
    )


def test_what_is_not_known_gives_no_grid() -> None:
    class Shuffled(_Blocks):
        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.left(self.stem(x)).flip(2)).mean((2, 3))

    class Skewed(_Blocks):
        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.stem(x) + self.stem(x)[:, :, :1]).mean((2, 3))

    picture = _picture(64, 1)
    assert find_grid(Shuffled(), "last", picture) is None
    assert find_grid(Skewed(), "last", picture) is None


def test_the_axes_may_differ() -> None:
    picture = _picture(64, 1)
    network = nn.Sequential(nn.Conv2d(1, 1, (3, 5), padding=1))
    assert find_grid(network, "0", picture) == Grid((0, 1), (1, 1))


@pytest.mark.parametrize(("network", "step"), [(tiny_vit, 8), (tiny_swin, 8)])
def test_the_tokens_of_patches_that_tile_the_picture_lie_at_their_centres(
    network: Callable[[], nn.Module], step: int
) -> None:
    backbone = own_backbone(network())
    assert backbone.grid == Grid((step - 1) / 2, step)
    L = torch.rand(2, 32 // step, 32 // step, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(upsample(L, 32, backbone.grid), upsample(L, 32))


def test_tokens_of_patches_that_overlap_lie_at_their_centres() -> None:
    network = tiny_vit()
    network.conv_proj = nn.Conv2d(3, 12, 11, stride=8, padding=2)
    assert own_backbone(network).grid == Grid(3, 8)
    network.conv_proj = nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.Conv2d(3, 12, 4, stride=4))
    assert own_backbone(network).grid == Grid(3, 8)
    network.conv_proj = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 12, 8, stride=8))
    assert own_backbone(network).grid == Grid(3.5, 8)
