"""What ``--list-metrics`` prints: every measure, what it costs and where it comes from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lcam_cli.errors import LcamError
from lcam_cli.reports.text import printable

if TYPE_CHECKING:
    from lcam_cli.cli.console import Console
    from lcam_cli.measures.measure import Measure

SCHEMA = "lcam-metrics/1"


def show_measures(format_: str, console: Console) -> None:
    """Show all measures, those of installed packages too.

    Args:
        format_: ``"table"`` or ``"json"``.
        console: Where they are shown; it is told of a package whose measure does not load.

    Raises:
        LcamError: The format is another one.
    """
    from lcam_cli.measures.registry import find_measure, known_measures
    from lcam_cli.runs.log import log_to

    if format_ not in ("table", "json"):
        raise LcamError(
            f"--list-metrics has no format {format_}", "use --format table or --format json"
        )
    measures = []
    with log_to(console):
        for name in known_measures():
            try:
                measures.append(find_measure(name))
            except LcamError as error:
                console.warn(f"skipped {name}: {error.what}; {error.hint}")
    if format_ == "json":
        content = {"schema": SCHEMA, "metrics": [_described(one) for one in measures]}
        console.result(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        _draw(measures, console)


def _described(measure: Measure) -> dict[str, Any]:
    return {
        "name": measure.name,
        "title": measure.title,
        "better": _better(measure),
        "per_nu": measure.per_nu,
        "cost": measure.cost,
        "source": measure.source,
        "needs_objects": measure.needs_objects,
        "explains_again": measure.explains_again,
    }


def _better(measure: Measure) -> str:
    return "low" if measure.lower_is_better else "high"


def _draw(measures: list[Measure], console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for title in ("name", "better", "cost", "needs", "source"):
        table.add_column(title, overflow="fold")
    for one in measures:
        words = (one.name, _better(one), one.cost, _needs(one), one.source)
        table.add_row(*(Text(printable(word)) for word in words))
    console.table(table)


def _needs(measure: Measure) -> str:
    """What has to be there besides the images and their maps."""
    needs = [
        *(["--boxes or --masks"] if measure.needs_objects else []),
        *(["the method"] if measure.explains_again else []),
    ]
    return ", ".join(needs)
