"""The comparison's figure: which numbers stand below the maps, and that they are there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from lcam_cli.measures.measure import quantities
from lcam_cli.measures.registry import find_measure, make_measures
from lcam_cli.measures.score import Score, Scores
from lcam_cli.reports.figure import Example, MethodRow, draw_figure
from lcam_cli.reports.figure_numbers import mean_lines, number_lines, shown_quantities
from lcam_cli.reports.sheet import tile_size

NUS = (100.0, 50.0, 15.0)


def shown(*names: str, nus: tuple[float, ...] = NUS) -> list[str]:
    measured = quantities(make_measures(names), nus)
    few = [measured[k] for k in shown_quantities(measured)]
    return [line.split()[0] for line in number_lines(few, np.zeros(len(few)))]


def test_a_few_numbers_are_shown_those_of_the_middle() -> None:
    assert shown("ad", "ic", "ag") == ["AD(50)", "AG(50)"]
    assert shown("insertion", "sparseness") == ["AD(50)", "insertion", "sparseness"]
    assert shown("all") == ["AD(50)", "AG(50)", "insertion"]
    assert shown("ad", nus=(15.0, 100.0)) == ["AD(100)"]
    assert shown("ad", nus=(12.5,)) == ["AD(12.5)"]


def test_what_is_not_defined_is_a_dash() -> None:
    measured = quantities([find_measure("ad"), find_measure("sparseness")], [50.0])
    assert number_lines(measured, np.array([np.nan, 0.5])) == ["AD(50) –", "sparseness 0.500"]
    scores = Scores({50.0: {"ad": Score(12.345, (1.0, 2.0))}}, {"sparseness": Score(None, None)})
    assert mean_lines(measured, scores) == ["mean AD(50) 12.35", "mean sparseness –"]


def test_numbers_stand_below_their_maps(tmp_path: Path) -> None:
    picture = Image.new("RGB", (40, 40), "white")
    examples = [Example(picture, (0, 0, 40, 40), ["cat"], [0.5]) for _ in range(2)]
    V = np.zeros((2, 1, 8, 8), np.float32)  # so all that is not white is written
    numbers = [[["AD(50) 1.00", "AG(50) 2.00"]], [[]]]
    sizes = []
    for name, row in {
        "with": MethodRow("cam", V, ["mean AD(50) 1.00", "mean AG(50) 2.00"], numbers),
        "without": MethodRow("cam", V),
    }.items():
        draw_figure(tmp_path / f"{name}.png", examples, [row, row])
        sizes.append(Image.open(tmp_path / f"{name}.png").size)
    assert sizes[0][1] - sizes[1][1] == 2 * round(2 * 1.3 * 25), "two lines a row"
    dark = np.asarray(Image.open(tmp_path / "with.png").convert("L")) < 128
    below = dark[-2 * 33 - 8 :, :]  # the last row's two lines
    columns = below.any(0).nonzero()[0]
    width = dark.shape[1]
    assert columns.min() > width - 2 * (tile_size(8, 8)[0] + 8), "below the first map"
    assert columns.max() < width - tile_size(8, 8)[0], "the second image has none"


def test_tiles_have_the_shape_of_what_the_network_sees(tmp_path: Path) -> None:
    assert tile_size(224, 224) == (300, 300)
    assert tile_size(180, 320) == (300, 169)
    assert tile_size(320, 180) == (169, 300)
    assert tile_size(1, 4000) == (300, 1)
    examples = [Example(Image.new("RGB", (64, 36), "white"), (0, 0, 64, 36), ["cat"], [0.5])]
    sizes = []
    for shape in ((18, 32), (32, 18)):
        row = MethodRow("cam", np.zeros((1, 1, *shape), np.float32))
        draw_figure(tmp_path / "f.png", examples, [row])
        sizes.append(Image.open(tmp_path / "f.png").size)
    assert sizes[0][0] - sizes[1][0] == 300 - 169
    assert sizes[1][1] - sizes[0][1] == 2 * (300 - 169), "the image and one map"
