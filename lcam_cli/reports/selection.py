"""How a training run ends: what it learned beside where it started, in a few lines."""

from __future__ import annotations

from lcam_cli.errors import plural
from lcam_cli.measures.score import Difference, Score
from lcam_cli.measures.selection import SHOWN, CandidateScore, Selection

_FEW = 30
"""Fewer images than this tell little: resampling them says less than it seems to."""


def selection_lines(selection: Selection) -> list[str]:
    """Say how a run compares with where it started, and whether training paid.

    Returns:
        A heading, a line each for what was learned, the start and random maps, and the verdict.
    """
    rows = {
        "learned": selection.candidates[selection.learned],
        "where it started": selection.candidates[selection.start],
        "random": selection.random,
    }
    width = max(map(len, rows))
    return [
        f"on {plural(selection.pictures, 'image')} kept aside, Average Drop with half of the "
        "pixels kept [95%], lower is better:",
        *(f"  {name:{width}}  {_row(one)}" for name, one in rows.items()),
        _verdict(selection),
    ]


def _row(candidate: CandidateScore) -> str:
    values, whole = (candidate.drops[drop] for drop in SHOWN)
    return f"{_number(values):20}  kept whole {_mean(whole)}"


def _verdict(selection: Selection) -> str:
    gain = selection.candidates[selection.learned].from_start
    assert gain is not None
    over = f"over all ν, Average Drop is {_points(gain)} than where it started"
    if selection.chosen == selection.start:
        said = f"training did not pay: {over}, so the start is kept"
    elif selection.paid:
        said = f"training paid: {over}"
    else:
        said = f"training did not clearly pay: {over}, which may be chance"
    few = selection.pictures < _FEW
    return (
        f"{said}; {plural(selection.pictures, 'image')} are few for this comparison"
        if few
        else said
    )


def _points(difference: Difference) -> str:
    """E.g. ``5.2 points [3.9, 6.4] lower``."""
    sign, word = (-1, "lower") if difference.mean <= 0 else (1, "higher")
    low, high = sorted(sign * end for end in difference.ci95)
    return f"{abs(difference.mean):.1f} points [{low:z.1f}, {high:z.1f}] {word}"


def _number(score: Score) -> str:
    assert score.ci95 is not None
    low, high = score.ci95
    return f"{_mean(score)} [{low:.1f}, {high:.1f}]"


def _mean(score: Score) -> str:
    assert score.mean is not None
    return f"{score.mean:.1f}"
