"""Which numbers a figure shows, and how: few, so that they can be read in print."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lcam_cli.measures.measure import Quantity
from lcam_cli.measures.score import Scores
from lcam_cli.reports.columns import UNDEFINED
from lcam_cli.reports.nu_key import nu_key
from lcam_cli.reports.text import printable

_MOST = 3
_LEFT_OUT = "ic"  # of one image it says yes or no, which AD of 0 says as well


def shown_quantities(measured: Sequence[Quantity]) -> list[int]:
    """Return the places of the quantities that are shown: AD and the next two, without IC.

    Measures at each ν are shown at the middle one.
    """
    nus = sorted({quantity.nu for quantity in measured if quantity.nu is not None})
    middle = nus[len(nus) // 2] if nus else None
    return [
        k
        for k, quantity in enumerate(measured)
        if quantity.nu in (None, middle) and quantity.measure.name != _LEFT_OUT
    ][:_MOST]


def mean_lines(measured: Sequence[Quantity], scores: Scores) -> list[str]:
    """Return a method's means of some quantities, a line each."""
    lines = []
    for quantity in measured:
        of = scores.plain if quantity.nu is None else scores.nu.get(quantity.nu, {})
        score = of.get(quantity.measure.name)
        lines.append(f"mean {_line(quantity, None if score is None else score.mean)}")
    return lines


def number_lines(measured: Sequence[Quantity], numbers: NDArray[np.float64]) -> list[str]:
    """Return one map's numbers of some quantities, (K,), a line each."""
    return [
        _line(quantity, None if np.isnan(number) else float(number))
        for quantity, number in zip(measured, numbers, strict=True)
    ]


def _line(quantity: Quantity, number: float | None) -> str:
    measure, nu = quantity.measure, quantity.nu
    title = measure.title if nu is None else f"{measure.title}({nu_key(nu)})"
    shown = UNDEFINED if number is None else f"{number:.{measure.digits}f}"
    return printable(f"{title} {shown}")
