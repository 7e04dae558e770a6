"""``losses.png``: which panels there are, and their limits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image

from lcam_cli.training.log import TrainingLog
from lcam_cli.training.loss_figure import draw_losses, limits, smooth
from lcam_cli.training.losses import TERMS
from lcam_cli.training.recipes import Recipe

RECIPE = replace(
    Recipe("ours", epochs=6, batch_size=4, lr=0.1),
    **{f"lambda_{name}": 0.0 for name in TERMS} | {"lambda_av": 2.5, "lambda_ce": 1.0},
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Six epochs of ten steps; the first steps and one in the middle are far off."""
    log = TrainingLog(tmp_path / "log.csv")
    for step in range(60):
        off = 1000.0 if step in (0, 31) else 0.0
        terms = dict.fromkeys(TERMS, 7.0) | {"av": 0.4, "ce": 2 - step / 60 + off}
        row = {"epoch": step // 10, "step": step, "loss": 1.0 + terms["ce"], "lr": 0.1}
        log.write({**row, **terms, "images_per_second": 1.0})
    log.close()
    return tmp_path / "log.csv"


def drawn(log: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> Figure:
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *given: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *given, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    draw_losses(log, log.with_name("losses.png"), recipe)
    return figures[0]


def test_a_panel_each_for_the_loss_the_weighted_terms_and_the_learning_rate(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TV, whose weight is 0, has none; the others are what they add to the loss."""
    figure = drawn(log, RECIPE, monkeypatch)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["loss", f"2.5 · {TERMS['av'].label}", TERMS["ce"].label, "learning rate"]
    average = figure.axes[1]
    assert list(average.lines[0].get_ydata()) == [1.0] * 60
    low, high = average.get_ylim()
    assert low < 1.0 < high < 2.0
    with Image.open(log.with_name("losses.png")) as picture:
        assert picture.width == 1050
        assert picture.height > 900


def test_a_curve_is_not_pulled_along_by_a_single_step(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CE falls from 2 to 1; step 31 alone is at 1001."""
    raw, curve = drawn(log, RECIPE, monkeypatch).axes[2].lines
    assert max(raw.get_ydata()) > 1000
    assert list(curve.get_xdata()) == list(range(60))
    assert min(curve.get_ydata()[1:]) > 1
    assert max(curve.get_ydata()[1:]) < 2.5


def test_a_single_term_is_the_loss_and_no_steps_are_drawn_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    TrainingLog(tmp_path / "log.csv").close()
    recipe = replace(RECIPE, lambda_av=0.0)
    figure = drawn(tmp_path / "log.csv", recipe, monkeypatch)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["loss", "learning rate"]
    assert figure.axes[-1].get_xlabel() == "step"


def test_limits_are_not_those_of_single_steps() -> None:
    values = [i / 100 for i in range(101)]
    assert limits(values) == pytest.approx((-0.05, 1.05))  # all of them, and a twentieth
    values[50] = 1e6
    values[51] = -1e6
    # 0.05 to 0.95, or just beyond, and half of that on either side.
    low, high = limits(values)
    assert low == pytest.approx(-0.4 - 0.09, abs=0.03)
    assert high == pytest.approx(1.4 + 0.09, abs=0.03)
    for flat in ([0.0], [2.0] * 5, [-1.0, -1.0]):
        low, high = limits(flat)
        assert low < flat[0] < high


def test_the_smoothed_curve_starts_with_the_first_value() -> None:
    assert smooth([4.0, 4.0]) == pytest.approx([4.0, 4.0])
    # (0.9·0.1·1 + 0.1·2) / (1 − 0.81)
    assert smooth([1.0, 2.0])[1] == pytest.approx((0.09 + 0.2) / 0.19)
    assert smooth([]) == []
