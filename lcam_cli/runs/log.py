"""The library's own warnings, passed on to the reporter of a run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from lcam_cli.runs.reporter import Reporter

_log = logging.getLogger("lcam")


@contextmanager
def log_to(reporter: Reporter) -> Iterator[None]:
    """Pass on what is logged within the block, instead of to the handlers there are."""
    if reporter.logs:  # it would come back
        yield
        return

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            reporter.warn(record.getMessage(), once=getattr(record, "once", False))

    before = _log.handlers, _log.propagate
    _log.handlers, _log.propagate = [Handler()], False
    try:
        yield
    finally:
        _log.handlers, _log.propagate = before
