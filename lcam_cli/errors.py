"""What can go wrong in a way the user can fix, and how it is told."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path

_LONGEST = 300


class LcamError(Exception):
    """A mistake the user can fix; the command line prints it and exits with code 2.

    Args:
        what: One line: what is wrong, with the offending value.
        hint: One line: what to do about it. May be empty.
    """

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what if not hint else f"{what}\n{hint}")
        self.what = what
        self.hint = hint


class CannotExplainError(LcamError):
    """A method cannot explain a network.

    Args:
        what: One line: why not.
        hint: One line: what to do about it.
        remedy: What would help apart from another method, as a part of a line; mostly nothing.
    """

    def __init__(self, what: str, hint: str = "", remedy: str = "") -> None:
        super().__init__(what, hint)
        self.remedy = remedy


class BadImageError(Exception):
    """One image that cannot be read; the run goes on without it.

    Args:
        reason: A short phrase, e.g. ``"truncated JPEG"``; it is listed beside the path.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in a run that keeps what it has finished.

    Args:
        folder: Where that is, for the same run to go on from.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(f"finished results are saved in {folder}")
        self.folder = folder


def near_names(name: str, known: Iterable[str], count: int = 3, cutoff: float = 0.5) -> list[str]:
    """Return up to ``count`` of the ``known`` names that look like ``name``, best first.

    Args:
        name: What was typed.
        known: What could have been meant.
        count: How many to return, at most.
        cutoff: How alike they must be, from 0 to 1, as difflib's ratio tells.
    """
    by_lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=count, cutoff=cutoff)
    containing = [low for low in by_lower if name.lower() in low and low not in near]
    return [by_lower[low] for low in (near + containing)[:count]]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"did you mean a, b?"`` for the near names, or an empty string."""
    near = near_names(name, known)
    return f"did you mean {', '.join(near)}?" if near else ""


def plural(count: int, what: str) -> str:
    """Return ``"1 image"`` or ``"2 images"``."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def one_line(error: BaseException) -> str:
    """The text of an error in one line, cut where it is very long."""
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def shown_path(file: str | Path) -> str:
    """A file as seen from the working directory; whole where it does not lie below that."""
    near = os.path.relpath(file)
    is_below = not near.startswith("..") and Path.cwd() != Path(os.sep)
    return near if is_below else str(file)
