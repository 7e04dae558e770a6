"""Where numbers lie after single operations, by pixels; and what is not known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import FrozenBatchNorm2d

from lcam_cli.engine.calls import Call
from lcam_cli.engine.following import Follow
from lcam_cli.engine.grid import Grid, find_grids
from tests.engine.pixels import centres
from tests.engine.test_grid import _Blocks

SIDE = 32


class _Doing(nn.Module):
    """Does something to the 16×16 maps of its stem, whose cells lie at 0, 2, 4, …"""

    def __init__(self, do: Callable[[_Doing, Tensor], Tensor]) -> None:
        super().__init__()
        self.do = do
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.down = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.merge = nn.Conv2d(16, 4, 1)
        self.linear = nn.Linear(4, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.norm = FrozenBatchNorm2d(4)
        self.last = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.do(self, self.stem(x))).flatten(1)


def _tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def _rolled(m: _Doing, x: Tensor) -> Tensor:
    """A linear layer in shifted windows of 4×4, as in Swin."""
    x = x.roll((-2, -2), (2, 3)).permute(0, 2, 3, 1)
    windows = x.reshape(-1, 4, 4, 4, 4, 4).transpose(2, 3).reshape(-1, 16, 4)
    x = m.linear(windows).reshape(-1, 4, 4, 4, 4, 4).transpose(2, 3).reshape(-1, 16, 16, 4)
    return x.roll((2, 2), (1, 2)).permute(0, 3, 1, 2)


def _filled(m: _Doing, x: Tensor) -> Tensor:
    """Written by parts into memory that was there before."""
    out = x.new_zeros(len(x), 4, 16, 16)
    out[:, :2], out[:, 2:] = x[:, 2:], x[:, :2]
    return out.mul_(2)


def _gated(m: _Doing, x: Tensor) -> Tensor:
    """Gates of the whole image, of rows and of columns."""
    rows, columns = x.mean(3, keepdim=True).sigmoid(), x.mean(2, keepdim=True).sigmoid()
    return x * x.mean((2, 3), keepdim=True).sigmoid() * rows * columns


KNOWN: dict[str, tuple[Callable[[_Doing, Tensor], Tensor], Grid]] = {
    "nothing": (lambda m, x: x, Grid(0, 2)),
    "frozen norm": (lambda m, x: functional.relu_(m.norm(x)), Grid(0, 2)),
    "a linear layer on tokens": (lambda m, x: m.linear(_tokens(x)), Grid(0, 2)),
    "a linear layer on channels last": (lambda m, x: m.linear(x.movedim(1, 3)), Grid(0, 2)),
    "shifted windows": (_rolled, Grid(0, 2)),
    "written by parts": (_filled, Grid(0, 2)),
    "gates": (_gated, Grid(0, 2)),
    "2×2 cells as channels": (
        lambda m, x: m.merge(functional.pixel_unshuffle(x, 2)),
        Grid(1, 4),
    ),
    "2×2 cells of tokens": (
        lambda m, x: m.merge(
            torch.cat([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], dim=1)
        ),
        Grid(1, 4),
    ),
    "a transposed convolution": (lambda m, x: m.up(x), Grid(-0.5, 1)),
    "enlarged": (
        lambda m, x: functional.interpolate(x, scale_factor=2.0, mode="bilinear"),
        Grid(-0.5, 1),
    ),
    "enlarged by a scale that gives no whole size": (
        lambda m, x: functional.interpolate(x, scale_factor=1.6, mode="bilinear"),
        Grid(-0.375, 1.25),
    ),
    "one of 2×2": (lambda m, x: functional.interpolate(x, size=8), Grid(0, 4)),
    "the last of 2×2": (
        lambda m, x: functional.interpolate(x, size=8, mode="nearest-exact"),
        Grid(2, 4),
    ),
    "dilated": (
        lambda m, x: functional.conv2d(x, m.down.weight, padding=2, dilation=2),
        Grid(0, 2),
    ),
    "cropped": (lambda m, x: x[:, :, 2:10, 2:10], Grid(4, 2)),
    "padded ahead alone": (lambda m, x: functional.pad(x, (3, 0, 3, 0)), Grid(-6, 2)),
    "reflected": (lambda m, x: functional.pad(x, (1, 1, 1, 1), mode="reflect"), Grid(-2, 2)),
    "smaller by means": (lambda m, x: functional.adaptive_avg_pool2d(x, 8), Grid(1, 4)),
    "windows with gaps": (lambda m, x: functional.avg_pool2d(x, 3, 2, ceil_mode=True), Grid(2, 4)),
    "branches that differ": (
        lambda m, x: m.down(x) + functional.avg_pool2d(x, 2),
        Grid(0.5, 4),
    ),
}


@pytest.mark.parametrize("what", KNOWN)
def test_where_numbers_lie_after_an_operation(what: str) -> None:
    do, grid = KNOWN[what]
    with torch.device("meta"):
        network = _Doing(do).eval()
    picture = torch.zeros(1, 3, SIDE, SIDE, device="meta")
    assert find_grids(network, [Call("last")], picture) == [grid]
    rows, columns = centres(network, "last", SIDE)
    expected = grid.start[0] + grid.step[0] * torch.arange(len(rows)).double()
    # What is enlarged is in steps, or the same beyond the edge: right in the mean.
    near = {"atol": 0.5 + 1e-6, "rtol": 0.0} if grid.step[0] < 2 else {}
    torch.testing.assert_close(rows, expected[:, None].expand_as(rows), **near)
    torch.testing.assert_close(columns, expected.expand_as(columns), **near)
    whole = len(rows) in (8, 16, 32)
    assert float((rows - expected[:, None]).mean()) == pytest.approx(0, abs=1e-6 if whole else 0.1)


def _attended(m: _Doing, x: Tensor) -> Tensor:
    tokens = _tokens(x)
    return m.attention(tokens, tokens, tokens)[0]


def _attended_by_hand(m: _Doing, x: Tensor) -> Tensor:
    tokens = _tokens(x)
    return (tokens @ tokens.mT).softmax(-1) @ tokens


@pytest.mark.parametrize("do", [_attended, _attended_by_hand])
def test_what_attention_gives_lies_where_its_query_does(
    do: Callable[[_Doing, Tensor], Tensor],
) -> None:
    assert _grid(_Doing(do)) == Grid(0, 2)


def _sampled(m: _Doing, x: Tensor) -> Tensor:
    return functional.grid_sample(x, torch.zeros(1, 16, 16, 2), align_corners=False)


def _changed_in_a_list(m: _Doing, x: Tensor) -> Tensor:
    torch._foreach_copy_([x], [x.flip(2)])
    return x


def _changed_as_other_numbers(m: _Doing, x: Tensor) -> Tensor:
    """Written as numbers of another size, which makes other places of each."""
    y = x.clone()
    y.view(torch.float64)[:] = x.flip(2).view(torch.float64)
    return y


UNKNOWN: dict[str, Callable[[_Doing, Tensor], Tensor]] = {
    "an operation without a rule": _sampled,
    "upside down": lambda m, x: x.flip(2),
    "upside down in place": lambda m, x: x.copy_(x.flip(2)),
    "with its mirror image": lambda m, x: x + x.flip(2),
    "with its mirror image by way of a sparse tensor": lambda m, x: (
        x + x.flip(2).to_sparse().to_dense()
    ),
    "masked by its mirror image": lambda m, x: x * (x > 0).flip(2),
    "changed in a list": _changed_in_a_list,
    "changed as other numbers": _changed_as_other_numbers,
    "sorted": lambda m, x: x.sort(2).values,
    "the second result of an operation without a rule": lambda m, x: (
        x + torch.ops.lcam_tests.mean_and_mirror(x)[1]
    ),
    "the first row for all": lambda m, x: x[:, :, :1].expand(-1, -1, 16, -1),
    "every second number of a row, and on": lambda m, x: x.as_strided(
        (1, 4, 8, 8), (1024, 256, 17, 1)
    ).clone(),
    "rows and columns exchanged": lambda m, x: torch.einsum("bchw->bcwh", x).clone(),
    "scattered": lambda m, x: torch.zeros_like(x).scatter(
        2, torch.arange(15, -1, -1).view(1, 1, 16, 1).expand_as(x), x
    ),
    "branches two cells apart": lambda m, x: x + x.roll((2, 2), (2, 3)),
    "the mean of the picture": lambda m, x: x.mean((2, 3), keepdim=True).expand_as(x) * 1,
    "out of sight": lambda m, x: torch.from_numpy(x.numpy().copy()),
    "an error": lambda m, x: x.view(-1, 7),
}

_LIBRARY = torch.library.Library("lcam_tests", "DEF")
_LIBRARY.define("mean_and_mirror(Tensor x) -> (Tensor, Tensor)")
_LIBRARY.impl(
    "mean_and_mirror",
    lambda x: (x.mean().view(1), x.flip(2).contiguous()),
    "CompositeExplicitAutograd",
)


def test_the_axes_may_differ() -> None:
    network = _Doing(lambda m, x: functional.avg_pool2d(x, (2, 1)))
    assert _grid(network) == Grid((1, 0), (4, 2))
    rows, columns = centres(network, "last", SIDE)
    torch.testing.assert_close(rows[:, 0], 1 + 4 * torch.arange(len(rows)).double())
    torch.testing.assert_close(columns[0], 2 * torch.arange(columns.shape[1]).double())


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_is_not_known_gives_no_grid(what: str) -> None:
    assert _grid(_Doing(UNKNOWN[what])) is None


def test_what_is_not_known_does_not_matter_beside_the_way() -> None:
    def do(m: _Doing, x: Tensor) -> Tensor:
        x.sort(2)
        return x

    assert _grid(_Doing(do)) == Grid(0, 2)


def test_a_network_in_torchscript_and_an_exported_one() -> None:
    picture = torch.zeros(1, 1, 64, 64)
    blocks = _Blocks().eval()
    scripted = nn.Sequential(torch.jit.trace(blocks.stem, picture), blocks.pool, blocks.left)
    assert find_grids(scripted, [Call("2")], picture) == [Grid(2, 8)]
    exported = torch.export.export(nn.Sequential(blocks.stem, blocks.pool), (picture,)).module()
    assert find_grids(nn.Sequential(exported, blocks.left), [Call("1")], picture) == [Grid(2, 8)]


def _in_inference_mode(m: _Doing, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return m.down(x).relu_() + m.linear(
            functional.max_pool2d(x, 3, 2, 1).movedim(1, 3)
        ).movedim(3, 1)


def _in_bfloat16(m: _Doing, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return m.down(x.contiguous(memory_format=torch.channels_last))


def _with_a_state(m: _Doing, x: Tensor) -> Tensor:
    """Statistics change, and numbers are drawn."""
    norm = nn.BatchNorm2d(4)
    return functional.dropout2d(m.down(norm(norm(x))), training=True)


def _compiled(m: _Doing, x: Tensor) -> Tensor:
    return torch.compile(m.down, backend="aot_eager")(x)


def _in_memory_used_again(m: _Doing, x: Tensor) -> Tensor:
    for _ in range(20):
        mirrored = x.flip(2)
        del mirrored
        # As large, so most often where that was.
        x = torch.empty_like(x).fill_(1) * x
    return m.down(x)


@pytest.mark.parametrize(
    "do", [_in_inference_mode, _in_bfloat16, _with_a_state, _compiled, _in_memory_used_again]
)
def test_ways_to_run_the_same_operations(do: Callable[[_Doing, Tensor], Tensor]) -> None:
    assert _grid(_Doing(do)) == Grid(0, 4)


def test_places_last_no_longer_than_what_they_belong_to() -> None:
    picture = torch.zeros(1, 3, SIDE, SIDE)
    follow = Follow(picture)
    with torch.no_grad(), follow:
        x = picture
        for _ in range(20):
            x = x * 2
        assert len(follow.memory) == 2
        del x
    assert len(follow.memory) == 1


def test_several_layers_and_calls_in_one_pass() -> None:
    class Twice(_Doing):
        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.down(self.down(self.stem(x)))).flatten(1)

    runs = []
    network = Twice(_attended).eval()
    network.register_forward_hook(lambda *_: runs.append(1))
    calls = [Call("stem"), Call("down", later=1), Call("last"), Call("merge")]
    grids = find_grids(network, calls, torch.zeros(1, 3, SIDE, SIDE))
    assert grids == [Grid(0, 2), Grid(0, 4), Grid(0, 8), None]
    assert len(runs) == 1


def _grid(network: nn.Module) -> Grid | None:
    (grid,) = find_grids(network.eval(), [Call("last")], torch.zeros(1, 3, SIDE, SIDE))
    return grid
