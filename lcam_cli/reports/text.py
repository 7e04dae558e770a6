"""Text that came from outside (file names, class names), made safe to show on one line."""

from __future__ import annotations

import re

# Some spreadsheets take the wide ones too.
_FORMULA = tuple("=+-@＝＋－＠")


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
