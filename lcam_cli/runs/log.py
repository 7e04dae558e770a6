"""The library's own warnings, passed on to the reporter of the run that they come from."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lcam_cli.runs.reporter import Reporter, call_outside, log_receiver

_log = logging.getLogger("lcam")
_changing = threading.Lock()


class _ToReporter:
    """A filter that takes the records of one run, so that no handler gets them."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def filter(self, record: logging.LogRecord) -> bool:
        if log_receiver.get() is not self._reporter:
            return True
        once = getattr(record, "once", False)
        call_outside(self._reporter.warn, record.getMessage(), once=once)
        return False


@contextmanager
def log_to(reporter: Reporter) -> Iterator[None]:
    """Pass on what is logged within the block, instead of to the handlers there are.

    What other threads log meanwhile, but for those that work for this block, goes where it went.
    """
    receiver = None if reporter.logs else reporter  # it would come back
    token = log_receiver.set(receiver)
    passing = _ToReporter(reporter)
    # New lists, since another thread may be going through the old one.
    with _changing:
        _log.filters = [*_log.filters, passing]
    try:
        yield
    finally:
        with _changing:
            _log.filters = [one for one in _log.filters if one is not passing]
        log_receiver.reset(token)
