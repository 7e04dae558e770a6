"""Pictures of more than 8 bits that use little of their range: one warning a run.

A scanner's 12 bits in a 16-bit file are at most 4095 of 65535: scaled as 16 bits are, the
classifier sees an image that is nearly black, and says something all the same.
"""
# Paths stay strings, as in find.py.
# ruff: noqa: PTH100

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from lcam_cli.working_folder import absolute

if TYPE_CHECKING:
    from lcam_cli.images.rgb import Levels

log = logging.getLogger("lcam")

_NEAR = 1 / 8
_LARGEST_WHOLE = 1e15


class _Found:
    """Those that were read in one run, each once however often. Thread-safe.

    Args:
        report: Is told of them in the end; None where nobody is.
    """

    def __init__(self, report: Callable[[str], None] | None = None) -> None:
        self.report = report
        self._found: dict[str, tuple[str, Levels]] = {}
        self._lock = threading.Lock()

    def add(self, path: str, levels: Levels) -> bool:
        """Note one; return whether it is the first."""
        with self._lock:
            first = not self._found
            self._found.setdefault(os.path.abspath(absolute(path)), (path, levels))
        return first

    def line(self) -> str:
        """Return how many there are, an example, and what to do; nothing where there are none."""
        if not self._found:
            return ""
        path, levels = min(self._found.values())
        every = [found for _, found in self._found.values()]
        black, white = fitting_window(every)
        advice = f"--window {number_text(black)},{number_text(white)} shows them"
        if any(found._replace(black=black, white=white).are_narrow for found in every):
            advice = (
                "their values differ too much for one --window: run similar images together, "
                "each group with its own --window"
            )
        count = len(self._found)
        one = count == 1
        what = "1 image uses" if one else f"{count} images use"
        return (
            f"{what} less than an eighth of the range of {'its' if one else 'their'} type "
            f"(e.g. {path}: {levels.low:g} to {levels.high:g} of {levels.white:g}): "
            f"nearly black, or without contrast, to the classifier; {advice}"
        )


def fitting_window(levels: Sequence[Levels]) -> tuple[float, float]:
    """Return the values that should become 0 and 1, so that all of the images' fit.

    Args:
        levels: Of each image, at least one.

    Returns:
        From black, where the values reach down near it, else from the least value; to the greatest.
    """
    low, high = min(one.low for one in levels), max(one.high for one in levels)
    black = min(one.black for one in levels)
    near = 0 <= low - black <= (high - black) * _NEAR
    return (black if near else low), high


def number_text(value: float) -> str:
    """Return a number in few letters: as it is where it is whole, else rounded."""
    return f"{value:.0f}" if value == round(value) and abs(value) < _LARGEST_WHOLE else f"{value:g}"


class NarrowPictures:
    """Those of every run, apart: runs in several threads each have their own."""

    def __init__(self) -> None:
        self._of_run: ContextVar[_Found | None] = ContextVar("narrow_pictures", default=None)
        self._of_no_run = _Found()

    def add(self, path: str, levels: Levels) -> None:
        """Note one. Where nobody reports them in the end, the first is warned of at once."""
        of_run = self._of_run.get()
        if of_run is not None:
            of_run.add(path, levels)
        elif self._of_no_run.add(path, levels):
            log.warning("%s", self._of_no_run.line())

    @contextmanager
    def reported_to(self, report: Callable[[str], None]) -> Iterator[None]:
        """Report those that are read within the block, in one line at its end.

        In a block that reports to the same another one does nothing: the outermost reports.
        """
        outer = self._of_run.get()
        if outer is not None and outer.report == report:
            yield
            return
        here = _Found(report)
        token = self._of_run.set(here)
        try:
            yield
        finally:
            self._of_run.reset(token)
            self._of_no_run = _Found()
            if line := here.line():
                report(line)


narrow_pictures = NarrowPictures()
"""Those of this process and the processes that read for it."""
