"""Every run's reporter gets its own warnings, and nothing stays in the log."""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from lcam_cli.images.depth import narrow_pictures
from lcam_cli.images.rgb import Levels
from lcam_cli.runs.background import BackgroundCalls
from lcam_cli.runs.log import log_to
from lcam_cli.runs.reporter import Progress, Reporter

LOG = logging.getLogger("lcam")
NARROW = Levels(0, 4095, 0, 65535)


def state() -> tuple[object, ...]:
    return (list(LOG.handlers), list(LOG.filters), LOG.propagate, LOG.level)


def test_two_overlapping_runs_in_threads(caplog: pytest.LogCaptureFixture) -> None:
    before = state()
    lines: dict[str, list[str]] = {"a": [], "b": []}
    both_began, a_ended = threading.Barrier(2, timeout=20), threading.Event()

    def run(name: str) -> None:
        reporter = Reporter(on_warning=lines[name].append)
        with ExitStack() as stack:
            stack.enter_context(narrow_pictures.reported_to(reporter.warn))
            stack.enter_context(log_to(reporter))
            both_began.wait()
            LOG.warning("of %s", name)
            background = BackgroundCalls[None]()
            background.do(lambda: LOG.warning("of %s, written", name))
            background.do(lambda: narrow_pictures.add(f"{name}.png", NARROW))
            background.wait()
            background.close()
            if name == "b":
                assert a_ended.wait(20)
                LOG.warning("of b, alone")
        a_ended.set()

    threads = [threading.Thread(target=run, args=(name,)) for name in lines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, said in lines.items():
        rest = [f"of {name}, alone"] if name == "b" else []
        assert said[:-1] == [f"of {name}", f"of {name}, written", *rest]
        assert (
            f"1 image uses less than an eighth of the range of its type (e.g. {name}.png"
            in (said[-1])
        )
    assert not caplog.records
    assert state() == before
    LOG.warning("afterwards")
    assert [record.message for record in caplog.records] == ["afterwards"]


@pytest.mark.parametrize("callback", ["the log's own", "one that logs"])
def test_a_callback_that_logs_there_is_no_circle(
    callback: str, caplog: pytest.LogCaptureFixture
) -> None:
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        LOG.warning("heard: %s", line)

    reporter = Reporter(on_warning=LOG.warning if callback == "the log's own" else tell)
    with log_to(reporter):
        LOG.warning("by the library")
        reporter.warn("by the run")
    heard = "" if callback == "the log's own" else "heard: "
    assert [r.getMessage() for r in caplog.records] == [
        f"{heard}by the library",
        f"{heard}by the run",
    ]
    assert lines == ([] if callback == "the log's own" else ["by the library", "by the run"])


def test_a_run_within_a_callback_has_its_own(caplog: pytest.LogCaptureFixture) -> None:
    outer: list[str] = []

    def another(_: Progress) -> None:
        with log_to(Reporter()), narrow_pictures.reported_to(LOG.warning):
            LOG.warning("inner")
            narrow_pictures.add("inner.png", NARROW)

    reporter = Reporter(another, outer.append)
    with narrow_pictures.reported_to(reporter.warn), log_to(reporter):
        with reporter.progress(1, "explain", "images") as progress:
            progress.advance()
        LOG.warning("outer")
    assert outer == ["outer"]
    assert caplog.records[0].message == "inner"
    assert str(Path("inner.png")) in caplog.records[1].message
