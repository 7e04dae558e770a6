"""Thresholds that a pipeline asks results to meet: those of AD and IC, which are in every table."""

from __future__ import annotations

from lcam_cli.reports.results import FLOOR, Results, nu_key


def check_gates(
    results: Results, max_ad: float | None = None, min_ic: float | None = None
) -> list[str]:
    """Return a message for every threshold missed, at every ν; none when all are met.

    Args:
        results: What was measured. The ``random`` row is not held to anything. What is not
            defined misses every threshold.
        max_ad: The highest AD allowed, in percent; None asks for nothing.
        min_ic: The lowest IC allowed, in percent; None asks for nothing.
    """
    missed = []
    for row in results.rows:
        if row.method == FLOOR:
            continue
        for nu, scores in row.scores.nu.items():
            key, ad, ic = nu_key(nu), scores["ad"].mean, scores["ic"].mean
            if max_ad is not None and ad is None:
                missed.append(
                    f"{row.method}: AD({key}) is not defined, the score of the class explained is "
                    f"0 on every picture: nothing shows that it is not above {max_ad:g}"
                )
            elif max_ad is not None and ad is not None and ad > max_ad:
                missed.append(f"{row.method}: AD({key}) is {_shown(ad, max_ad)}, above {max_ad:g}")
            if min_ic is not None and ic is not None and ic < min_ic:
                missed.append(f"{row.method}: IC({key}) is {_shown(ic, min_ic)}, below {min_ic:g}")
    return missed


def _shown(value: float, bound: float) -> str:
    """As in the tables, unless that would look like the bound itself."""
    return f"{value:.2f}" if abs(value - bound) >= 0.01 else f"{value:.10g}"
