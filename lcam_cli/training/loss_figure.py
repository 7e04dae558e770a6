"""``losses.png``: how the loss of a run went, and each term that has a say in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lcam_cli.training.log import read_log
from lcam_cli.training.losses import TERMS
from lcam_cli.training.recipes import Recipe

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH, _PANEL, _SLIM, _FRAME = 7.0, 1.9, 0.9, 0.5
"""Inches: of the figure, the height of a panel, of the learning rate's, and of what is around."""
_OUTLIERS = 5.0
"""Percent of the values at either end that may be far off and still set no limits."""


def draw_losses(log: Path, picture: Path, recipe: Recipe) -> None:
    """Draw what ``log.csv`` says against the steps, a panel each with limits of its own.

    The panels are the loss, each term of it times its weight λ where that is not 0 (a single one
    is the loss), and the learning rate.

    Args:
        log: The file.
        picture: The PNG to write.
        recipe: The run's, for the weights λ.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 (slow import)
    from matplotlib.figure import Figure  # noqa: PLC0415

    rows = read_log(log)
    steps = [row["step"] for row in rows]
    panels = _panels(rows, recipe)
    heights = [_PANEL] * len(panels) + [_SLIM]
    figure = Figure(figsize=(_WIDTH, sum(heights) + _FRAME), layout="constrained")
    FigureCanvasAgg(figure)
    *above, last = figure.subplots(len(heights), sharex=True, height_ratios=heights)
    for number, (axes, (label, values)) in enumerate(zip(above, panels.items(), strict=True)):
        _draw_values(axes, steps, values, f"C{number}")
        axes.set_title(label, loc="left", fontsize="medium")
    last.plot(steps, [row["lr"] for row in rows], color="0.3")
    last.set_ylim(bottom=0)
    last.set_title("learning rate", loc="left", fontsize="medium")
    last.set_xlabel("step")
    for axes in (*above, last):
        axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=150)


def limits(values: Sequence[float]) -> tuple[float, float]:
    """The limits of an axis: those of the values, but for what a few single steps threw far off.

    Far off is further from the 5th to 95th percentiles than half of what lies between these.

    Args:
        values: What it shows, at least one number.

    Returns:
        Low and high, which differ.
    """
    low, high = np.percentile(values, [_OUTLIERS, 100 - _OUTLIERS])
    reach = (high - low) / 2
    low, high = max(low - reach, min(values)), min(high + reach, max(values))
    margin = (high - low) / 20 or abs(high) / 20 or 1.0
    return float(low - margin), float(high + margin)


def smooth(values: Sequence[float], weight: float = 0.9) -> list[float]:
    """Exponential moving average, corrected for its start."""
    average, smoothed = 0.0, []
    for count, value in enumerate(values, 1):
        average = weight * average + (1 - weight) * value
        smoothed.append(average / (1 - weight**count))
    return smoothed


def _panels(rows: Sequence[Mapping[str, float]], recipe: Recipe) -> dict[str, list[float]]:
    """What is drawn over the steps, by the titles of the panels."""
    weights = {name: getattr(recipe, f"lambda_{name}") for name in TERMS}
    weighted = {name: weight for name, weight in weights.items() if weight}
    panels = {"loss": [row["loss"] for row in rows]}
    if len(weighted) > 1:
        for name, weight in weighted.items():
            label = TERMS[name].label if weight == 1 else f"{weight:g} · {TERMS[name].label}"
            panels[label] = [weight * row[name] for row in rows]
    return panels


def _draw_values(
    axes: Axes,
    steps: Sequence[float],
    values: Sequence[float],
    color: str,
) -> None:
    """Draw each step's value, and a smoothed curve."""
    if not values:
        return
    low, high = limits(values)
    axes.set_ylim(low, high)
    axes.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
    # What a single step threw far off must not pull the curve along.
    axes.plot(steps, smooth(np.clip(values, low, high).tolist()), color=color)
