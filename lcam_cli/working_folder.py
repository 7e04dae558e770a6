"""The folder that a run's relative paths are in, wherever the program goes meanwhile.

A program has one working folder for all its threads. A run that opened ``maps.h5`` by that name
again, after somebody has changed it, would go on in another file.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path, PosixPath
from typing import Self

_of_run: ContextVar[str | None] = ContextVar("working_folder", default=None)


@contextmanager
def working_folder_kept() -> Iterator[None]:
    """Have :func:`absolute` and :class:`RunPath` mean the present working folder in the block."""
    token = _of_run.set(os.getcwd())  # noqa: PTH109 (as spelt)
    try:
        yield
    finally:
        _of_run.reset(token)


@contextmanager
def working_folder_followed() -> Iterator[None]:
    """Have them mean the working folder of each moment again: for a caller's function in a run."""
    token = _of_run.set(None)
    try:
        yield
    finally:
        _of_run.reset(token)


def absolute(path: str) -> str:
    """Return where a path leads in the run at work here; outside of runs, where it leads now."""
    return os.path.join(_of_run.get() or os.getcwd(), path)  # noqa: PTH109, PTH118 (strings)


class RunPath(PosixPath):
    """A path that is shown and stored as it was given, and leads into the run's working folder."""

    __slots__ = ()

    def __fspath__(self) -> str:
        return absolute(str(self))

    def iterdir(self) -> Generator[Self, None, None]:
        """Yield what the folder holds, in no order."""
        # Python 3.13's own looks into the folder of that name, not into where this path leads.
        for name in os.listdir(self):  # noqa: PTH208 (it is how iterdir is done)
            yield self / name

    def absolute(self) -> Path:  # type: ignore[override]
        """Return it with the run's working folder."""
        return Path(absolute(str(self)))
