"""Thresholds that a pipeline asks results to meet: those of AD and IC, which are in every table."""

from __future__ import annotations

from collections.abc import Mapping

from lcam_cli.reports.gate import Gate
from lcam_cli.reports.nu_key import nu_key
from lcam_cli.reports.results import FLOOR, Results, Row
from lcam_cli.reports.text import printable

Threshold = float | Mapping[float, float]
"""One bound for every ν that is measured, or one for each ν that it names; in percent."""


def check_gates(
    results: Results, max_ad: Threshold | None = None, min_ic: Threshold | None = None
) -> list[Gate]:
    """Hold every method to its thresholds, at every ν that they are for.

    Args:
        results: What was measured. The ``random`` row is not held to anything.
        max_ad: The highest AD allowed; None asks for nothing.
        min_ic: The lowest IC allowed; None asks for nothing.
    """
    gates = []
    for row in results.rows:
        if row.method != FLOOR:
            for nu in row.scores.nu:
                if (bound := _at(max_ad, nu)) is not None:
                    gates.append(_gate("max-ad", row, nu, bound))
                if (bound := _at(min_ic, nu)) is not None:
                    gates.append(_gate("min-ic", row, nu, bound))
    return gates


def _at(threshold: Threshold | None, nu: float) -> float | None:
    return threshold.get(nu) if isinstance(threshold, Mapping) else threshold


def _gate(name: str, row: Row, nu: float, bound: float) -> Gate:
    measure = "ad" if name == "max-ad" else "ic"
    value = row.scores.nu[nu][measure].mean
    title, method = f"{measure.upper()}({nu_key(nu)})", printable(row.method)
    if value is None:
        words = (
            f"{method}: {title} is not defined, because the score of the explained class is 0 "
            f"on every image, so it cannot be shown to meet {bound:g}"
        )
        return Gate(name, row.method, measure, nu, None, bound, False, words)
    above = measure == "ad"
    passed = value <= bound if above else value >= bound
    side = "above" if above else "below"
    words = "" if passed else f"{method}: {title} is {_shown(value, bound)}, {side} {bound:g}"
    return Gate(name, row.method, measure, nu, value, bound, passed, words)


def _shown(value: float, bound: float) -> str:
    """As in the tables, unless that would look like the bound itself."""
    return f"{value:.2f}" if abs(value - bound) >= 0.01 else f"{value:.10g}"
