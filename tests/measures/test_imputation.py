"""Linear imputation: by hand, against sparse direct solvers, and what must hold of any mean."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import interpolate

from lcam_cli.measures import imputation
from lcam_cli.measures.imputation import TOLERANCE, impute
from tests.measures.imputed import imputed

SHARES = (0.2, 0.4, 0.6, 0.8)


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    """Smooth regions and single odd pixels, (1, 3, H, W) in [0, 1]."""
    draw = torch.Generator().manual_seed(seed)
    cells = torch.rand(1, 3, 7, 7, generator=draw)
    x = interpolate(cells, (height, width), mode="bicubic").clamp(0, 1)
    odd = torch.rand(1, 1, height, width, generator=draw) < 0.1
    return torch.where(odd, torch.rand(x.shape, generator=draw), x)


def blobs(height: int, width: int, cells: int, share: float, seed: int = 0) -> Tensor:
    """The highest pixels of an upsampled random grid, as of a class activation map: (1, H, W)."""
    draw = torch.Generator().manual_seed(seed)
    V = torch.rand(1, 1, cells, cells, generator=draw)
    V = interpolate(V, (height, width), mode="bilinear")[:, 0]
    return V.quantile(1 - share) < V


def where(height: int, width: int, rule: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    rows = torch.arange(height).unsqueeze(1).expand(height, width)
    columns = torch.arange(width).expand(height, width)
    return rule(rows, columns).unsqueeze(0)


def far(x: Tensor, removed: Tensor) -> float:
    """The largest difference to the exact solution."""
    exact = imputed(x[0].double().numpy(), removed[0].numpy())
    return float((impute(x, removed)[0] - torch.from_numpy(exact)).abs().max())


# --- By hand ---


@pytest.mark.parametrize("at", [(1, 1), (0, 0), (0, 1), (2, 1), (1, 2), (2, 2)])
def test_one_pixel_is_the_mean_of_the_neighbours_it_has(at: tuple[int, int]) -> None:
    x = torch.rand(1, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    removed = torch.zeros(1, 3, 3, dtype=torch.bool)
    removed[0][at] = True
    total, weights = torch.zeros(3), 0.0
    for row in range(3):
        for column in range(3):
            steps = abs(row - at[0]), abs(column - at[1])
            if max(steps) == 1:
                weight = 1 / 12 if sum(steps) == 2 else 1 / 6
                total += weight * x[0, :, row, column]
                weights += weight
    expected = x.clone()
    expected[0, :, at[0], at[1]] = total / weights
    torch.testing.assert_close(impute(x, removed), expected, atol=1e-6, rtol=0)


def test_a_gap_in_a_line_is_bridged_evenly() -> None:
    """In an image one pixel high each pixel is the mean of two: a straight line."""
    x = torch.tensor([0.2, 9, 9, 9, 1.0]).view(1, 1, 1, 5)
    removed = torch.tensor([[[False, True, True, True, False]]])
    got = impute(x, removed).flatten().tolist()
    assert got == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0], abs=1e-6)


def test_what_lies_past_the_last_kept_pixel_continues_it() -> None:
    x = torch.tensor([0.2, 0.6, 9, 9]).view(1, 1, 4, 1)
    removed = torch.tensor([False, False, True, True]).view(1, 4, 1)
    assert impute(x, removed).flatten().tolist() == pytest.approx([0.2, 0.6, 0.6, 0.6], abs=1e-6)


def test_two_pixels_that_are_each_others_neighbours() -> None:
    x = torch.zeros(1, 1, 3, 4)
    x[..., 0] = 1
    removed = torch.zeros(1, 3, 4, dtype=torch.bool)
    removed[0, 1, 1:3] = True
    # The left column, of ones, has the weights 1, 2 and 1 for the first, and each of the two has 2
    # for the other: 12u = 4 + 2v and 12v = 2u, so that u = 12/35 and v = 2/35.
    got = impute(x, removed)[0, 0, 1, 1:3].tolist()
    assert got == pytest.approx([12 / 35, 2 / 35], abs=1e-6)


def test_nothing_removed_changes_nothing_and_everything_removed_leaves_the_mean_colour() -> None:
    x = picture(20, 30).expand(2, -1, -1, -1)
    removed = torch.zeros(2, 20, 30, dtype=torch.bool)
    removed[1] = True
    got = impute(x, removed)
    assert torch.equal(got[0], x[0])
    torch.testing.assert_close(got[1], x[1].mean((1, 2), keepdim=True).expand_as(x[1]))


# --- Against sparse direct solvers ---


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("cells", [7, 28])
def test_pixels_of_maps_are_within_the_tolerance(cells: int, share: float) -> None:
    assert far(picture(224, 224), blobs(224, 224, cells, share)) < TOLERANCE


SHAPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "the upper half": lambda rows, columns: rows < 48,
    "all but the last row": lambda rows, columns: rows < 94,
    "all but one pixel": lambda rows, columns: (rows != 50) | (columns != 31),
    "all but a lattice": lambda rows, columns: (rows % 8 != 4) | (columns % 8 != 4),
    "all but single pixels on every coarser grid": lambda rows, columns: (
        (rows % 16 != 0) | (columns % 16 != 0)
    ),
    "every other pixel": lambda rows, columns: (rows + columns) % 2 == 0,
    "every other row": lambda rows, columns: rows % 2 == 1,
    "single pixels": lambda rows, columns: (rows % 5 == 2) & (columns % 7 == 3),
    "channels": lambda rows, columns: (columns % 8 != 3) | (rows > 86),
    "stripes on a slant": lambda rows, columns: (rows - 2 * columns) % 23 > 1,
    "odd places": lambda rows, columns: (rows % 2 == 1) & (columns % 2 == 1),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_that_are_hard_for_coarse_grids(name: str) -> None:
    assert far(picture(95, 80), where(95, 80, SHAPES[name])) < TOLERANCE


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.8, 0.98, 0.999])
def test_scattered_pixels(share: float) -> None:
    draw = torch.Generator().manual_seed(3)
    removed = torch.rand(1, 96, 96, generator=draw) < share
    assert far(picture(96, 96), removed) < TOLERANCE


@given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    share=st.floats(0, 1),
    seed=st.integers(0, 999),
)
@settings(deadline=None, max_examples=60)
def test_small_pictures_of_any_size(size: tuple[int, int], share: float, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    x = torch.rand(1, 2, *size, generator=draw)
    removed = torch.rand(1, *size, generator=draw) < share
    removed.flatten()[torch.randint(removed.numel(), (1,), generator=draw)] = False
    if removed.any():
        assert far(x, removed) < TOLERANCE


def test_against_the_imputer_of_grad_cam() -> None:
    """The authors' code, as grad-cam has it, without its noise."""
    road = pytest.importorskip("pytorch_grad_cam.metrics.road")
    imputer = road.NoisyLinearImputer(noise=0)
    x = picture(64, 56)
    for share in SHARES:
        removed = blobs(64, 56, 7, share)
        expected = imputer(x[0], (~removed[0]).float())
        torch.testing.assert_close(impute(x, removed)[0], expected, atol=TOLERANCE, rtol=0)


# --- What must hold of any mean ---


def test_imputed_pixels_are_between_the_lowest_and_the_highest_kept() -> None:
    for seed, share in enumerate(SHARES):
        x, removed = picture(60, 70, seed), blobs(60, 70, 6, share, seed)
        got, kept = impute(x, removed)[0], ~removed[0]
        for channel, original in zip(got, x[0], strict=True):
            assert channel.min() >= original[kept].min() - TOLERANCE
            assert channel.max() <= original[kept].max() + TOLERANCE
            assert torch.equal(channel[kept], original[kept])


def test_removed_pixels_do_not_count() -> None:
    x, removed = picture(60, 70), blobs(60, 70, 6, 0.6)
    other = torch.where(removed.unsqueeze(1), torch.rand_like(x), x)
    assert torch.equal(impute(x, removed), impute(other, removed))


def test_imputing_goes_with_turning_and_with_brightness() -> None:
    x, removed = picture(60, 70), blobs(60, 70, 6, 0.6)
    got = impute(x, removed)
    turned = impute(x.transpose(2, 3), removed.transpose(1, 2)).transpose(2, 3)
    flipped = impute(x.flip(3), removed.flip(2)).flip(3)
    darker = (impute(0.5 * x + 0.1, removed) - 0.1) / 0.5
    for other in (turned, flipped, darker):
        torch.testing.assert_close(got, other, atol=4 * TOLERANCE, rtol=0)


def test_a_plane_is_restored() -> None:
    """A slope is the mean of its neighbours: where the frame is kept, nothing changes."""
    slope = torch.linspace(0, 0.5, 50).unsqueeze(1) + torch.linspace(0, 0.5, 40)
    x = slope.expand(1, 3, 50, 40)
    removed = torch.zeros(1, 50, 40, dtype=torch.bool)
    removed[:, 1:-1, 1:-1] = True
    torch.testing.assert_close(impute(x, removed), x, atol=TOLERANCE, rtol=0)


# --- Batches ---


def test_a_picture_does_not_depend_on_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.cat([picture(60, 70, seed) for seed in range(5)])
    removed = torch.cat([blobs(60, 70, 6, share) for share in (*SHARES, 0.1)])
    removed[4] = where(60, 70, SHAPES["all but a lattice"])[0]  # takes more steps than the others
    alone = torch.cat([impute(x[i : i + 1], removed[i : i + 1]) for i in range(5)])
    for count in (2, 5):
        monkeypatch.setitem(imputation._AT_ONCE, "cpu", count)
        torch.testing.assert_close(impute(x, removed), alone, atol=1e-6, rtol=0)


def test_the_layout_of_the_pictures_is_kept() -> None:
    x, removed = picture(60, 70), blobs(60, 70, 6, 0.6)
    last = x.contiguous(memory_format=torch.channels_last)
    got = impute(last, removed)
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(got, impute(x, removed))
