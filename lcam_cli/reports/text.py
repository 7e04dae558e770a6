"""Text that came from outside (file names, class names), made safe to show on one line."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Return ``text`` with every character that does not print written as an escape.

    Control characters (so terminal escape sequences and line breaks too), invisible format
    characters and the surrogates of file names that are not UTF-8 come out as ``\x1b``,
    ``\u202e`` or ``\udcff``. Letters of any script, and spaces, stay.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
