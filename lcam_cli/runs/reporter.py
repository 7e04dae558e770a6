"""What a run says while it works, and to whom."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from lcam_cli.errors import LcamError
from lcam_cli.working_folder import working_folder_followed

T = TypeVar("T")

_log = logging.getLogger("lcam")


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        what: What is being done, e.g. ``"explain"``.
        done: How many units are done.
        total: How many there are to do.
        unit: What is counted, e.g. ``"images"``.
        seconds: Time since the first of them was begun.
    """

    what: str
    done: int
    total: int
    unit: str
    seconds: float


class Counter(Protocol):
    """Counts what is done."""

    def advance(self, count: int = 1) -> None:
        """Note that ``count`` more units are done."""

    def note(self, text: str) -> None:
        """Show how it goes, in a few words, from now on: an epoch, a loss."""


class Reporter:
    """Passes on what a run has to say; the command line's shows it on the terminal.

    Args:
        on_progress: Called after every batch.
        on_warning: Called with a line about what may surprise, though the run goes on. Without it
            warnings go to the logger ``"lcam"``.
        on_info: Called with a line about what is going on.

    Attributes:
        command: The command as it was typed, for the pages it writes; empty where there is none.

    Raises:
        LcamError: One of them is no function.
    """

    command: str = ""

    def __init__(
        self,
        on_progress: Callable[[Progress], None] | None = None,
        on_warning: Callable[[str], None] | None = None,
        on_info: Callable[[str], None] | None = None,
    ) -> None:
        for name, given in (
            ("on_progress", on_progress),
            ("on_warning", on_warning),
            ("on_info", on_info),
        ):
            if given is not None and not callable(given):
                raise LcamError(f"Reporter.{name} cannot be {given!r}", "pass a function")
        self._on_progress = on_progress
        self._on_warning = on_warning
        self._on_info = on_info

    @property
    def logs(self) -> bool:
        """Whether warnings go to the logger ``"lcam"``, for want of a callback."""
        return self._on_warning is None

    @property
    def takes_info(self) -> bool:
        """Whether anybody is told what is going on."""
        return self._on_info is not None

    def info(self, message: str) -> None:
        """Say what is going on."""
        if self._on_info is not None:
            call_outside(self._on_info, message)

    def warn(self, message: str, *, once: bool = False) -> None:
        """Say what may surprise the user, though the run goes on.

        Args:
            message: One line.
            once: Whether every rank would say the same, so that the first one says it alone.
        """
        call_outside(self._on_warning or _log.warning, message)

    @contextmanager
    def progress(self, total: int, what: str, unit: str) -> Iterator[Counter]:
        """Say how far a run has come, from now until the block ends.

        Args:
            total: How many units there are to do.
            what: What is being done, e.g. ``"explain"``.
            unit: What is counted, e.g. ``"images"``.
        """
        yield _Counter(total, what, unit, self._on_progress)


class _Counter:
    def __init__(
        self, total: int, what: str, unit: str, call: Callable[[Progress], None] | None
    ) -> None:
        self._total, self._what, self._unit, self._call = total, what, unit, call
        self._done, self._start = 0, time.monotonic()

    def advance(self, count: int = 1) -> None:
        self._done += count
        if self._call is not None:
            seconds = time.monotonic() - self._start
            so_far = Progress(self._what, self._done, self._total, self._unit, seconds)
            call_outside(self._call, so_far)

    def note(self, text: str) -> None:
        """Callers read such things in the results."""


log_receiver: ContextVar[Reporter | None] = ContextVar("log_receiver", default=None)
"""Whom the run at work here tells what the library logs; None leaves that to the log's handlers."""


def call_outside(callback: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call a caller's function from within a run, to which it does not belong.

    What it logs is the caller's, and does not come back as the run's; its paths are where the
    program is now.
    """
    token = log_receiver.set(None)
    try:
        with working_folder_followed():
            return callback(*args, **kwargs)
    finally:
        log_receiver.reset(token)
