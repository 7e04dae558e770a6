"""A measure against ν as curves: where each line, tick and interval of the drawing lies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lcam_cli.measures.score import Score
from lcam_cli.reports.nu_key import nu_key
from lcam_cli.reports.results import FLOOR, Results, Row
from lcam_cli.reports.text import printable

WIDTH, HEIGHT = 380, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 364, 12, 228
HUES = 8
_APART = 2.5  # between methods at one ν, so that their intervals do not cover each other
_TICK_ROOM = 17.0
_MOST_STEPS = 7


@dataclass(frozen=True)
class Dot:
    """One method at one ν, in the drawing's units.

    Attributes:
        x: To the right.
        y: Downwards.
        low: Where the interval's lower bound lies.
        high: Where its upper bound lies.
        says: The numbers in words.
    """

    x: float
    y: float
    low: float
    high: float
    says: str


@dataclass(frozen=True)
class Line:
    """One method.

    Attributes:
        method: Its name.
        hue: Its colour: ``"0"`` to ``"7"``, or ``"floor"``.
        dashed: Whether its colour has been used before, or it is the floor.
        dots: By rising ν.
    """

    method: str
    hue: str
    dashed: bool
    dots: Sequence[Dot]

    @property
    def points(self) -> str:
        """For SVG's ``polyline``."""
        return " ".join(f"{dot.x:g},{dot.y:g}" for dot in self.dots)


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Chart:
    """A drawing of one measure; its sides are those of the module.

    Attributes:
        title: What it shows.
        better: ``"lower"`` or ``"higher"``.
        lines: One a method.
        nus: Ticks along the bottom.
        values: Ticks up the left.
    """

    title: str
    better: str
    lines: Sequence[Line]
    nus: Sequence[Tick]
    values: Sequence[Tick]
    left: int = _LEFT
    right: int = _RIGHT
    top: int = _TOP
    bottom: int = _BOTTOM
    width: int = WIDTH
    height: int = HEIGHT


def chart(results: Results, name: str) -> Chart:
    """Lay out the curves of a measure, with their 95% intervals, over ν from 0 to 100.

    Args:
        results: What was measured.
        name: The name of a measure that is one at each ν.
    """
    measure = next(measure for measure in results.nu_measures if measure.name == name)
    shown = [_values(scores, name) for row in results.rows for scores in row.scores.nu.values()]
    bounds = [bound for values in shown if values is not None for bound in values]
    steps = value_steps(min(bounds, default=0), max(bounds, default=100))

    def y(value: float) -> float:
        share = (value - steps[0]) / (steps[-1] - steps[0])
        return round(_BOTTOM - (_BOTTOM - _TOP) * share, 2)

    lines: list[Line] = []
    for k, row in enumerate(results.rows):
        shift = (k - (len(results.rows) - 1) / 2) * _APART
        dots = []
        for nu in sorted(row.scores.nu):
            values = _values(row.scores.nu[nu], name)
            if values is None:
                continue
            low, value, high = values
            says = (
                f"{printable(row.method)}, ν = {nu_key(nu)}: {value:.2f} ({low:.2f} to {high:.2f})"
            )
            dots.append(Dot(round(_x(nu) + shift, 2), y(value), y(low), y(high), says))
        lines.append(Line(printable(row.method), *_style(row, lines), dots))
    return Chart(
        measure.long_title or measure.title,
        "lower" if measure.lower_is_better else "higher",
        lines,
        _nu_ticks(results.nus),
        [Tick(y(value), f"{value:g}") for value in steps],
    )


def value_steps(low: float, high: float) -> list[float]:
    """Return equal steps of 1, 2 or 5 times a power of ten that reach from ``low`` to ``high``.

    There are two at least, also where ``low`` is ``high``, and seven at most.
    """
    rough = max(high - low, 1e-6) / (_MOST_STEPS - 2)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 9) for k in range(first, max(last, first + 1) + 1)]


def _values(scores: Mapping[str, Score], name: str) -> tuple[float, float, float] | None:
    """The interval's lower bound, the mean, the upper bound; None where there is none."""
    score = scores.get(name)
    if score is None or score.mean is None or score.ci95 is None:
        return None
    return score.ci95[0], score.mean, score.ci95[1]


def _x(nu: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * nu / 100


def _style(row: Row, before: Sequence[Line]) -> tuple[str, bool]:
    """Hue, and whether the line is dashed."""
    if row.method == FLOOR:
        return "floor", True
    place = sum(line.hue != "floor" for line in before)
    return str(place % HUES), place >= HUES


def _nu_ticks(nus: Sequence[float]) -> list[Tick]:
    """A tick a ν; where labels would touch, only the higher one has its own."""
    ticks: list[Tick] = []
    last = math.inf
    for nu in sorted(nus, reverse=True):
        roomy = last - _x(nu) >= _TICK_ROOM
        ticks.append(Tick(_x(nu), nu_key(nu) if roomy else ""))
        last = _x(nu) if roomy else last
    return ticks
