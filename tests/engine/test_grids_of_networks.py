"""Where the cells of many networks lie, by pixels."""

from __future__ import annotations

import pytest

from lcam_cli.engine.grid import Grid
from tests.engine.placed_networks import (
    BRANCHES,
    NEARER_TILED,
    QUICK,
    TILING,
    TIMM,
    TORCHVISION,
    place,
)


def _marked(names: list[str]) -> list[object]:
    return [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow, id=name)
        for name in names
    ]


@pytest.mark.parametrize("name", _marked(TIMM))
def test_cells_of_timms_networks_lie_where_pixels_say(name: str) -> None:
    pytest.importorskip("timm")
    assert place(name).largest_error() < 0.5


def test_padding_that_depends_on_the_size_moves_the_first_cell() -> None:
    pytest.importorskip("timm")
    placed = place("tf_efficientnet_lite0")
    # Five convolutions of stride 2, each a pixel of its own input further: 1 + 2 + 4 + 8 + 16.
    assert (placed.layer, placed.grid) == ("bn2", Grid(31, 32))


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_cells_of_torchvisions_networks_lie_where_pixels_say(name: str) -> None:
    assert place(f"torchvision/{name}").largest_error() < 0.5


@pytest.mark.parametrize("name", _marked(BRANCHES))
def test_where_branches_differ_pixels_say_the_same_cell(name: str) -> None:
    pytest.importorskip("timm")
    placed = place(name)
    assert placed.grid is not None
    # How much of it comes from which branch depends on the weights, so between them it may lie
    # anywhere: the most here are 8 pixels of 32.
    assert placed.largest_error() <= placed.grid.step[0] / 4 + 1e-3
    nearer = placed.largest_error() < placed.error_of_tiles()
    assert nearer == (name not in NEARER_TILED)


@pytest.mark.slow
@pytest.mark.parametrize("name", TILING)
def test_networks_that_tile_the_picture(name: str) -> None:
    pytest.importorskip("timm")
    assert place(name).grid is None
