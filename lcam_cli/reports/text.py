"""Text that came from outside (file names, class names), made safe to show on one line."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lcam_cli.maps.record import Tiled

# Some spreadsheets take the wide ones too.
_FORMULA = tuple("=+-@＝＋－＠")

_DIGEST = "sha256:"
_DIGITS = 12


def printable(text: str) -> str:
    r"""Return ``text`` with every character that does not print written as an escape.

    Control characters (so terminal escape sequences and line breaks too), invisible format
    characters and the surrogates of file names that are not UTF-8 come out as ``\x1b``,
    ``\u202e`` or ``\udcff``. Letters of any script, and spaces, stay.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def markdown_text(text: str) -> str:
    """Return the text with what Markdown or HTML would take as markup escaped."""
    # The last two keep addresses from becoming links.
    return re.sub(r"[\\`*_\[\]<>|~&$#!]|:(?=//)|(?<=www)\.", r"\\\g<0>", text)


def csv_text(name: str) -> str:
    """Return a name that a spreadsheet does not run as a formula."""
    formula = name.lstrip().startswith(_FORMULA)
    return f"'{printable(name)}" if formula else printable(name)


def tiled_words(rows: Mapping[str, Tiled | None]) -> list[str]:
    """Return what is said of cells that are not placed by their receptive fields, if any.

    Args:
        rows: Methods, and why their cells tile the image.
    """
    unknown = ", ".join(name for name, why in rows.items() if why == "unknown")
    words = ["cells tile the image (--no-align)"] if "asked" in rows.values() else []
    if unknown:
        words.append(f"not aligned: {unknown} (the positions of the cells are not known)")
    return words


def short_weights(weights: str) -> str:
    """Return how weights are called in a line: of a file's digest, what tells files apart."""
    digest = weights.removeprefix(_DIGEST)
    return weights if digest == weights else f"{_DIGEST}{digest[:_DIGITS]}"


def wrapped(line: str, width: int | None, start: str = "") -> list[str]:
    """Return a line as lines that a terminal of so many columns need not break within a word.

    Args:
        line: Text; the spaces at its beginning indent all lines.
        width: Columns; None leaves the line whole.
        start: What stands before the text; the lines that follow are indented as far.
    """
    if width is None or len(start + line) <= width:
        return [start + line]
    indent = " " * (len(start) + len(line) - len(line.lstrip()))
    return textwrap.wrap(
        line,
        max(width, len(indent) + 10),
        initial_indent=start,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
