"""Pictures of more than 8 bits that use little of their range: one warning a run.

A scanner's 12 bits in a 16-bit file are at most 4095 of 65535: scaled as 16 bits are, the
classifier sees a picture that is nearly black, and says something all the same.
"""
# Paths stay strings, as in find.py.
# ruff: noqa: PTH100

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lcam_cli.images.rgb import Levels

log = logging.getLogger("lcam")


class NarrowPictures:
    """Those that were read, each once however often. Thread-safe."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[str, Levels]] = {}
        self._lock = threading.Lock()
        self._reported_in_the_end = False

    def add(self, path: str, levels: Levels) -> None:
        """Note one. Where nobody reports them in the end, the first is warned of at once."""
        with self._lock:
            first = not self._found
            self._found.setdefault(os.path.abspath(path), (path, levels))
        if first and not self._reported_in_the_end:
            log.warning("%s", self.line())

    @contextmanager
    def reported_to(self, report: Callable[[str], None]) -> Iterator[None]:
        """Report those that are read within the block, in one line at its end.

        In such a block another one does nothing: the outermost reports.
        """
        if self._reported_in_the_end:
            yield
            return
        self._found, self._reported_in_the_end = {}, True
        try:
            yield
        finally:
            if self._found:
                report(self.line())
            self._found, self._reported_in_the_end = {}, False

    def line(self) -> str:
        """Return how many there are, an example, and what to do."""
        path, levels = min(self._found.values())
        count = len(self._found)
        one = count == 1
        what = "1 picture uses" if one else f"{count} pictures use"
        return (
            f"{what} less than an eighth of the range of {'its' if one else 'their'} type "
            f"(e.g. {path}: {levels.low:g} to {levels.high:g} of {levels.white:g}): "
            "nearly black, or without contrast, to the classifier, since 16 bits are "
            "scaled by 1/257; stretch the values to the whole range"
        )


narrow_pictures = NarrowPictures()
"""Those of this process and the processes that read for it."""
