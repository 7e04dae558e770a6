"""Results as a LaTeX table, like the paper's Table 1."""

from __future__ import annotations

import re

from lcam_cli.reports.results import Results
from lcam_cli.reports.table import BEST, CLOSE, SECOND, caption, columns

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
    CLOSE: r"$\approx$",
    "–": r"\textendash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def to_latex(results: Results) -> str:
    r"""Return a ``tabular`` that needs no package: best ``\textbf``, second ``\underline``."""
    marks = {0: "{}", BEST: r"\textbf{{{}}}", SECOND: r"\underline{{{}}}"}
    shown = columns(results)
    rows = [
        [
            marks[column.ranks[i]].format(escaped(column.cells[i]))
            + r"$^{\approx}$" * column.close[i]
            for column in shown
        ]
        for i in range(len(results.rows))
    ]
    head = [escaped(column.title) for column in shown]
    lines = [
        f"% {caption(results)}",
        rf"\begin{{tabular}}{{l{'r' * (len(shown) - 1)}}}",
        r"\hline",
        _line(head),
        r"\hline",
        *(_line(row) for row in rows),
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
