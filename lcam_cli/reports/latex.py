"""Results as a LaTeX table, like the paper's Table 1."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lcam_cli.reports.columns import BEST, HIGHER, LOWER, SECOND, Column
from lcam_cli.reports.results import Results
from lcam_cli.reports.table import CLOSE, caption, text_tables

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\char34}",  # \textquotedbl is missing from LaTeX's default encoding
    # After the \\ of the row before, these would be its arguments.
    **{character: f"{{{character}}}" for character in "[]*"},
    "×": r"$\times$",
    LOWER: r"$\downarrow$",
    HIGHER: r"$\uparrow$",
    CLOSE: r"$\approx$",
    "–": r"\textendash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def to_latex(results: Results, *, intervals: bool = False) -> str:
    r"""Return a ``tabular`` that needs no package: best ``\textbf``, second ``\underline``.

    One of many columns is parted as in Markdown.

    Args:
        results: What was measured.
        intervals: Whether the 95% interval of a number stands behind it, in small letters.
    """
    tables = [_tabular(shown, intervals) for shown in text_tables(results)]
    return f"% {caption(results)}\n" + "\n".join(tables)


def _tabular(shown: Sequence[Column], intervals: bool) -> str:
    marks = {0: "{}", BEST: r"\textbf{{{}}}", SECOND: r"\underline{{{}}}"}

    def cell(column: Column, i: int) -> str:
        interval = (
            rf" {{\scriptsize ({escaped(column.intervals[i])})}}"
            if intervals and column.intervals[i]
            else ""
        )
        number = marks[column.ranks[i]].format(escaped(column.cells[i]))
        return number + r"$^{\approx}$" * column.close[i] + interval

    lines = [
        rf"\begin{{tabular}}{{l{'r' * (len(shown) - 1)}}}",
        r"\hline",
        _line([escaped(column.head) for column in shown]),
        r"\hline",
        *(_line([cell(column, i) for column in shown]) for i in range(len(shown[0].cells))),
        r"\hline",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Return the text with everything LaTeX would take as a command or a ligature escaped."""
    safe = "".join(_ESCAPES.get(character, character) for character in text)
    return re.sub(r"([-'`?!,])(?=[-'`,])", r"\1{}", safe)


def _line(cells: list[str]) -> str:
    return f"{' & '.join(cells)} \\\\"
