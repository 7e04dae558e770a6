"""Options of the commands that measure, as ``Annotated`` types for their signatures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lcam_cli.cli import completion
from lcam_cli.errors import LcamError
from lcam_cli.measures.registry import DEFAULT, check_measure

DEFAULT_NUS = (100.0, 50.0, 15.0)


def parse_nus(values: list[str] | None) -> tuple[float, ...]:
    """Return the percentages ν of ``--nu``, each once, in the order given.

    Args:
        values: What was given, each a number or several with commas between; None or empty for
            the paper's 100, 50 and 15.

    Raises:
        typer.BadParameter: One is not a number, or not in (0, 100].
    """
    if not values:
        return DEFAULT_NUS
    nus = []
    for word in ",".join(values).split(","):
        try:
            nu = float(word)
        except ValueError:
            raise typer.BadParameter(f"{word!r} is not a number (e.g. --nu 100,50,15).") from None
        if not 0 < nu <= 100:
            raise typer.BadParameter(f"{word} is not above 0 and at most 100 percent.")
        nus.append(nu)
    return tuple(dict.fromkeys(nus))


def _check_nus(value: list[str] | None) -> list[str] | None:
    parse_nus(value)
    return value


Nus = Annotated[
    list[str] | None,
    typer.Option(
        "--nu",
        metavar="PERCENT[,...]",
        callback=_check_nus,
        show_default="100,50,15",
        help="Percentage of pixels kept, those with the highest map values. Repeatable.",
    ),
]


def parse_metrics(values: list[str] | None) -> tuple[str, ...]:
    """Return the names in ``--metrics``, each once; the default where nothing was typed.

    Raises:
        typer.BadParameter: One is unknown.
    """
    if not values:
        return DEFAULT
    words = [word.strip() for item in values for word in item.split(",")]
    for word in words:
        try:
            check_measure(word)
        except LcamError as error:
            raise typer.BadParameter(f"{error.what}: {error.hint}") from None
    return tuple(dict.fromkeys(words))


def _check_metrics(value: list[str] | None) -> list[str] | None:
    parse_metrics(value)
    return value


Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metrics",
        metavar="NAME[,...]|all",
        autocompletion=completion.metrics,
        callback=_check_metrics,
        show_default=",".join(DEFAULT),
        help="What to measure; --list-metrics shows all. ad and ic are always included.",
    ),
]

Labels = Annotated[
    str | None,
    typer.Option(
        "--labels",
        metavar="FILE|folders",
        help="True classes, for top-1 and top-5 accuracy: a file of NAME CLASS lines, or the "
        "folder names.",
    ),
]

MaskSpace = Annotated[
    Literal["pixel", "normalized"],
    typer.Option(
        "--mask-space",
        help="Hide pixels with black (pixel, as the paper's code) or with the "
        "mean colour (normalized).",
    ),
]

Keep = Annotated[
    Literal["values", "whole"],
    typer.Option(
        "--keep",
        help="Show kept pixels times the map's values (as the paper), or whole: then only where "
        "the map is high counts, not how high.",
    ),
]

Boxes = Annotated[
    Path | None,
    typer.Option(
        "--boxes",
        metavar="FILE|DIR",
        help="Boxes of the objects, for pointing, energy and iou: COCO JSON, CSV, or a folder of "
        "Pascal VOC XML.",
    ),
]

PerImageFile = Annotated[
    Path | None,
    typer.Option(
        "--per-image",
        metavar="FILE.csv|json|parquet",
        help="Also write the results of each image: one row per image, class and method.",
    ),
]

ByClass = Annotated[
    Path | None,
    typer.Option(
        "--by-class",
        metavar="FILE.csv|json|md|tex",
        help="Write the means of each class: of the true one with --labels, else of the one "
        "explained.",
    ),
]

Intervals = Annotated[
    bool, typer.Option("--intervals", help="Show the 95% confidence interval of every number.")
]

ListMetrics = Annotated[
    bool,
    typer.Option("--list-metrics", help="List all measures, then exit."),
]

Masks = Annotated[
    Path | None,
    typer.Option(
        "--masks",
        metavar="DIR",
        help="Masks of the objects: PNG files named as the images, above 0 is object.",
    ),
]
