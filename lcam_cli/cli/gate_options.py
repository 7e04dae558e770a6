"""Options that hold a result to thresholds, as ``Annotated`` types for commands' signatures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer


def parse_thresholds(text: str | None) -> float | dict[float, float] | None:
    """Return the number for every ν, or the numbers by ν: ``50=30,15=75``.

    Raises:
        typer.BadParameter: It is neither.
    """
    if text is None:
        return None
    if "=" not in text:
        return _number(text)
    bounds: dict[float, float] = {}
    for item in text.split(","):
        nu, equals, bound = item.partition("=")
        if not equals:
            raise typer.BadParameter(
                f"{text!r} mixes a number for every ν with numbers by ν: write e.g. 50=30,15=75."
            )
        at = _number(nu)
        if not 0 < at <= 100:
            raise typer.BadParameter(f"{nu.strip()} is not above 0 and at most 100 percent.")
        if at in bounds:
            raise typer.BadParameter(f"{text!r} names ν = {nu.strip()} twice.")
        bounds[at] = _number(bound)
    return bounds


def _number(word: str) -> float:
    """A finite number: every score would pass one that is not."""
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise typer.BadParameter(f"{word.strip()} is not a percentage (e.g. 30, or 50=30,15=75).")
    return number


def _check(value: str | None) -> str | None:
    parse_thresholds(value)
    return value


MaxAd = Annotated[
    str | None,
    typer.Option(
        "--max-ad",
        metavar="X|NU=X[,...]",
        callback=_check,
        help="Exit with 1 if AD is above X at any ν of --nu, or at the given ones: 50=30,15=75.",
    ),
]
MinIc = Annotated[
    str | None,
    typer.Option(
        "--min-ic",
        metavar="X|NU=X[,...]",
        callback=_check,
        help="Exit with 1 if IC is below X at any ν of --nu, or at the given ones.",
    ),
]
WorseThan = Annotated[
    Path | None,
    typer.Option(
        "--worse-than",
        metavar="FILE.json",
        help="Exit with 1 if AD or IC is worse than in this earlier result, by more than --by; "
        "image by image if the images are the same and its --per-image CSV is in the same folder.",
    ),
]
By = Annotated[
    float | None,
    typer.Option("--by", min=0, metavar="X", help="Percentage points that --worse-than allows."),
]
