"""Results in the format asked for, to stdout or a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lcam_cli.errors import LcamError
from lcam_cli.reports.latex import to_latex
from lcam_cli.reports.results import Results, to_json
from lcam_cli.reports.table import to_csv, to_markdown, to_rich

if TYPE_CHECKING:
    from rich.console import RenderableType

TEXT_FORMATS: dict[str, Callable[[Results], str]] = {
    "json": to_json,
    "csv": to_csv,
    "markdown": to_markdown,
    "latex": to_latex,
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


def write(results: Results, format_: str, out: Path | None, console: Console) -> None:
    """Show results on stdout, or write them to a file (tables as Markdown there).

    Raises:
        LcamError: The file cannot be written.
    """
    texts = {name: partial(render, results) for name, render in TEXT_FORMATS.items()}
    deliver(texts, partial(to_rich, results), format_, out, console)


def deliver(
    texts: Mapping[str, Callable[[], str]],
    table: Callable[[int | None], RenderableType],
    format_: str,
    out: Path | None,
    console: Console,
) -> None:
    """Show a result on stdout, or write it to a file.

    Args:
        texts: What renders it, by format; there is ``"markdown"``.
        table: What draws it on a terminal of so many columns; of any width for None.
        format_: ``"table"``, which is Markdown in a file, or one of ``texts``.
        out: The file; None for stdout.
        console: Stdout.

    Raises:
        LcamError: The file cannot be written.
    """
    if out is None and format_ == "table":
        console.table(table(console.width))
    elif out is None:
        console.result(texts[format_]())
    else:
        text = texts.get(format_, texts["markdown"])()
        try:
            out.write_text(text if text.endswith("\n") else f"{text}\n", "utf-8")
        except OSError as error:
            raise LcamError(
                f"cannot write {out}: {error.strerror}", "name another file with --out"
            ) from None
