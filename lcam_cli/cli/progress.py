"""How far a run has come: a bar on a terminal, plain lines elsewhere, a spinner before it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from lcam_cli.reports.text import printable

if TYPE_CHECKING:
    import rich.console
    import rich.progress

_LONGEST_NAME = 24  # characters before a bar


class PlainProgress:
    """Progress for logs and pipes: a plain line now and then, and one at the end.

    Args:
        total: How many units there are to do.
        what: What is being done.
        unit: What is counted.
        out: Where the lines go.
        every: Seconds between two lines, at least.
        clock: A clock in seconds.
    """

    def __init__(
        self,
        total: int,
        what: str,
        unit: str,
        out: TextIO,
        every: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._what, self._unit = total, printable(what), unit
        self._out, self._every, self._clock = out, every, clock
        self._done, self._note = 0, ""
        self._start = self._last = clock()

    def advance(self, count: int = 1) -> None:
        """Note that ``count`` more units are done; write a line if the last is long ago."""
        self._done += count
        now = self._clock()
        if now - self._last >= self._every and self._done < self._total:
            self._last = now
            left = (self._total - self._done) * (now - self._start) / max(self._done, 1)
            self._line(now, f"{_minutes(left)} left")

    def note(self, text: str) -> None:
        """Have the next lines end with how it goes."""
        self._note = f", {printable(text)}"

    def close(self) -> None:
        """Write the last line."""
        now = self._clock()
        self._line(now, f"{_minutes(now - self._start)} in all")

    def _line(self, now: float, when: str) -> None:
        rate = self._done / max(now - self._start, 1e-9)
        self._out.write(
            f"{self._what}: {self._done}/{self._total} {self._unit}, "
            f"{rate:.1f} {self._unit}/s, {when}{self._note}\n"
        )
        self._out.flush()


class Silent:
    """Shows nothing."""

    def advance(self, count: int = 1) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""


class Bar:
    """One line of a live display.

    Args:
        display: The display, as :func:`live_progress` makes it.
        total: How many units there are to do.
        what: What is being done.
    """

    def __init__(self, display: rich.progress.Progress, total: int, what: str) -> None:
        self._display = display
        self._task = display.add_task(_short(printable(what)), total=total, note="")

    def advance(self, count: int = 1) -> None:
        """Note that ``count`` more units are done."""
        self._display.advance(self._task, count)

    def note(self, text: str) -> None:
        """Show how it goes, at the end of the line."""
        self._display.update(self._task, note=printable(text))


class Spinner:
    """A line that moves while nothing else does: that the command is at work, and for how long.

    Attributes:
        console: What prints above it.
    """

    def __init__(self) -> None:
        import rich.console
        import rich.progress as rp
        from rich.text import Text

        class Doing(rp.ProgressColumn):
            max_refresh = 0.1

            def render(self, task: rp.Task) -> Text:
                return Text("working" if "torchvision" in sys.modules else "loading PyTorch")

        self.console = rich.console.Console(stderr=True)
        self._display = rp.Progress(
            rp.SpinnerColumn(),
            Doing(),
            rp.TimeElapsedColumn(),
            console=self.console,
            transient=True,
        )
        self._display.add_task("", total=None)

    def start(self) -> None:
        """Show it."""
        self._display.start()

    def stop(self) -> None:
        """Take it away."""
        self._display.stop()


def live_progress(unit: str) -> rich.progress.Progress:
    """Return a display of bars that are redrawn several times a second.

    Args:
        unit: What is counted.
    """
    import rich.console
    import rich.progress as rp
    from rich.text import Text

    class Rate(rp.ProgressColumn):
        def render(self, task: rp.Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:.1f} {unit}/s")

    return rp.Progress(
        rp.SpinnerColumn(),
        rp.TextColumn("{task.description}", markup=False),
        rp.BarColumn(),
        rp.MofNCompleteColumn(),
        Rate(),
        rp.TimeRemainingColumn(),
        rp.TextColumn("{task.fields[note]}", markup=False),
        console=rich.console.Console(stderr=True),
    )


def _short(what: str) -> str:
    """Return a list of names that leaves room for the bar on a narrow terminal."""
    first, *others = what.split(", ")
    is_long = len(what) > _LONGEST_NAME and others
    return f"{first} and {len(others)} more" if is_long else what


def _minutes(seconds: float) -> str:
    """Return e.g. ``0:04`` or ``1:02:03``."""
    minutes, secs = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{secs:02}" if hours else f"{minutes}:{secs:02}"
