"""Results in the format asked for, on stdout."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from lcam_cli.reports.latex import to_latex
from lcam_cli.reports.results import Results, to_json
from lcam_cli.reports.table import ENOUGH, to_csv, to_markdown, to_rich

if TYPE_CHECKING:
    from rich.console import RenderableType

R = TypeVar("R")


def text_formats(*, intervals: bool) -> dict[str, Callable[[Results], str]]:
    """Return what renders results as text, by format.

    Args:
        intervals: Whether Markdown and LaTeX show 95% intervals; JSON and CSV always have them.
    """
    return {
        "json": to_json,
        "csv": to_csv,
        "markdown": partial(to_markdown, intervals=intervals),
        "latex": partial(to_latex, intervals=intervals),
    }


class Console(Protocol):
    """Where results are shown."""

    @property
    def width(self) -> int | None:
        """Columns of the terminal; None where there is none."""

    def result(self, text: str) -> None:
        """Write a finished text to stdout."""

    def table(self, renderable: RenderableType) -> None:
        """Draw a table on stdout."""


def show_results(
    results: Results, format_: str, console: Console, *, intervals: bool = False
) -> None:
    """Show results on stdout, with the 95% interval of every number where it is asked for."""
    texts, table = text_formats(intervals=intervals), partial(to_rich, intervals=intervals)
    show(texts, table, results, format_, console)


def rendered_results(results: Results, format_: str, *, intervals: bool = False) -> str:
    """Return results in a format, as :func:`rendered` does."""
    table = partial(to_rich, intervals=intervals)
    return rendered(text_formats(intervals=intervals), table, results, format_)


def rendered(
    texts: Mapping[str, Callable[[R], str]],
    table: Callable[[R, int | None], RenderableType],
    results: R,
    format_: str,
) -> str:
    """Return results of any kind as text; a table is drawn plainly, and as wide as it is.

    Args:
        texts: What renders them, by format.
        table: What draws them.
        results: What is shown.
        format_: ``"table"``, or one of ``texts``.
    """
    if format_ != "table":
        return texts[format_](results)
    import rich.console

    paper = rich.console.Console(file=io.StringIO(), width=ENOUGH, color_system=None)
    with paper.capture() as drawn:
        paper.print(table(results, None))
    return "\n".join(line.rstrip() for line in drawn.get().splitlines()) + "\n"


def show(
    texts: Mapping[str, Callable[[R], str]],
    table: Callable[[R, int | None], RenderableType],
    results: R,
    format_: str,
    console: Console,
) -> None:
    """Show results of any kind on stdout.

    Args:
        texts: What renders them, by format.
        table: What draws them on a terminal of so many columns; of any width for None.
        results: What is shown.
        format_: ``"table"``, or one of ``texts``.
        console: Stdout.
    """
    if format_ == "table":
        console.table(table(results, console.width))
    else:
        console.result(texts[format_](results))
