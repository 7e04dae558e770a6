"""Talking to the user: results on stdout, everything else on stderr."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from types import FrameType
from typing import TYPE_CHECKING, TextIO

from lcam_cli.errors import LcamError
from lcam_cli.reports.text import printable
from lcam_cli.runs.reporter import Counter, Reporter

if TYPE_CHECKING:
    import rich.console
    import rich.progress
    from rich.console import RenderableType

_results: TextIO | None = None  # where results go while stdout is everybody else's stderr

# A pipe or a log file has no width: wide enough that no table is ever folded or cut.
_NO_WIDTH = 10_000


@contextmanager
def results_alone() -> Iterator[None]:
    """Keep stdout for results: what anybody else prints there meanwhile goes to stderr.

    The user's network may print whenever it runs, and so may what it starts or calls in C.
    """
    global _results  # noqa: PLW0603 (as sys.stdout is: there is one)
    if _results is not None:  # within another command
        yield
        return
    sys.stdout.flush()
    own = _apart_from_others()
    _results = own or sys.stdout
    try:
        with redirect_stdout(sys.stderr):
            try:
                yield
            except BaseException as error:
                if hasattr(error, "exit_code"):  # how commands end that say how
                    _flush(_results)
                raise
            _flush(_results)
    finally:
        _results = None
        if own is not None:
            os.dup2(own.fileno(), 1)
            with suppress(OSError):  # nobody reads it any more: that was told above
                own.close()


@contextmanager
def written_to(results: TextIO) -> Iterator[None]:
    """Say what is wrong with where results are written to within the block.

    Raises:
        LcamError: They cannot be written, as to a full disk.
        BrokenPipeError: Nobody reads them any more.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        drop(results)
        raise LcamError(
            f"cannot write the result to stdout: {error.strerror}", "send it somewhere else"
        ) from None


def _flush(results: TextIO) -> None:
    with written_to(results):
        results.flush()


def drop(results: TextIO) -> None:
    """Let what cannot be written go nowhere: Python tries once more on its way out."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), results.fileno())


def _apart_from_others() -> TextIO | None:
    """Make descriptor 1 lead to stderr; return where it led, or None where stdout is no file."""
    try:
        if sys.stdout.fileno() != 1:
            return None
        own = os.fdopen(
            os.dup(1), "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors or "strict"
        )
        os.dup2(2, 1)
    except (OSError, ValueError):  # replaced, or closed
        return None
    return own


class Console(Reporter):
    """Writes results to stdout, and progress, notes, warnings and errors to stderr.

    Messages may hold names from outside: what does not print is escaped, and a message is
    always one line.

    Args:
        quiet: Whether to silence everything on stderr but errors.
        follows: Whether this is one rank of a run for which the first one speaks: then it tells
            warnings and errors alone.
        interrupt: What the first Ctrl-C sets while progress is shown; without it, and at any other
            time, Ctrl-C ends the command.
    """

    def __init__(
        self, quiet: bool = False, *, follows: bool = False, interrupt: Interrupt | None = None
    ) -> None:
        super().__init__(on_warning=self.warn)
        self.quiet = quiet
        self._follows = follows
        self._interrupt = interrupt
        self._live: rich.console.Console | None = None

    @property
    def takes_info(self) -> bool:
        """Whether anybody is told what is going on."""
        return not (self.quiet or self._follows)

    def info(self, message: str) -> None:
        """Tell what is going on."""
        if self.takes_info:
            self._say(message)

    def warn(self, message: str, *, once: bool = False) -> None:
        """Tell what may surprise the user, though the run goes on.

        Args:
            message: One line.
            once: Whether every rank would tell the same, so that the first one tells it alone.
        """
        if not (self.quiet or (once and self._follows)):
            self._say(f"warning: {message}")

    def error(self, what: str, hint: str = "") -> None:
        """Tell what went wrong and, on a second line, what to do about it."""
        self._say(f"error: {what}")
        if hint:
            self._say(hint)

    def exit_code(self, skipped: int, what: str) -> int:
        """Tell how many inputs a run has left out, and return 3; 0 where there are none.

        Args:
            skipped: How many.
            what: What is the matter with them, e.g. ``"could not be read"``.
        """
        if skipped:
            self.warn(f"{skipped} of the inputs {what} (exit code 3)")
        return 3 if skipped else 0

    def result(self, text: str) -> None:
        """Write a finished text (JSON, CSV, Markdown) to stdout as it is."""
        _stdout().write(text if text.endswith("\n") else f"{text}\n")

    @property
    def width(self) -> int | None:
        """Columns of the terminal that stdout is; None where it is none."""
        return shutil.get_terminal_size().columns if _stdout().isatty() else None

    def table(self, renderable: RenderableType) -> None:
        """Draw a Rich table on stdout: styled on a terminal, plain and uncut elsewhere."""
        import rich.console

        on_terminal = _stdout().isatty()
        console = rich.console.Console(
            file=_stdout(),
            width=None if on_terminal else _NO_WIDTH,
            color_system="auto" if on_terminal else None,
            force_terminal=on_terminal,
        )
        # Rich would end the process by itself when the reader of a pipe has gone, so it only
        # draws; writing, and what to do when that fails, stays ours.
        with console.capture() as drawn:
            console.print(renderable)
        _stdout().write(drawn.get())

    @contextmanager
    def progress(self, total: int, what: str, unit: str) -> Iterator[Counter]:
        """Show how far a run has come, with its rate and the time left.

        Args:
            total: How many units there are to do.
            what: What is being done, e.g. ``"explain"``.
            unit: What is counted, e.g. ``"images"``.
        """
        with interruptible(self._interrupt) if self._interrupt else nullcontext():
            if self.quiet or self._follows:
                yield _Silent()
            elif sys.stderr.isatty():
                with _live_progress(what, unit) as bar:
                    self._live = bar.console
                    try:
                        yield _Bar(bar, bar.add_task(printable(what), total=total))
                    finally:
                        self._live = None
            else:
                lines = PlainProgress(total, what, unit, sys.stderr)
                yield lines
                lines.close()

    def _say(self, message: str) -> None:
        line = printable(message)
        if self._live is None:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
        else:  # above the bar, which would otherwise be drawn over the message
            self._live.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)


def _stdout() -> TextIO:
    return _results or sys.stdout


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
        self._done = 0
        self._start = self._last = clock()

    def advance(self, count: int = 1) -> None:
        """Note that ``count`` more units are done; write a line if the last is long ago."""
        self._done += count
        now = self._clock()
        if now - self._last >= self._every and self._done < self._total:
            self._last = now
            left = (self._total - self._done) * (now - self._start) / max(self._done, 1)
            self._line(now, f"{_minutes(left)} left")

    def close(self) -> None:
        """Write the last line."""
        now = self._clock()
        self._line(now, f"{_minutes(now - self._start)} in all")

    def _line(self, now: float, when: str) -> None:
        rate = self._done / max(now - self._start, 1e-9)
        self._out.write(
            f"{self._what}: {self._done}/{self._total} {self._unit}, "
            f"{rate:.1f} {self._unit}/s, {when}\n"
        )
        self._out.flush()


class _Silent:
    def advance(self, count: int = 1) -> None:
        """Say nothing."""


class _Bar:
    def __init__(self, bar: rich.progress.Progress, task: rich.progress.TaskID) -> None:
        self._bar, self._task = bar, task

    def advance(self, count: int = 1) -> None:
        self._bar.advance(self._task, count)


def _live_progress(what: str, unit: str) -> rich.progress.Progress:
    import rich.console
    import rich.progress as rp
    from rich.text import Text

    class Rate(rp.ProgressColumn):
        def render(self, task: rp.Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:.1f} {unit}/s")

    return rp.Progress(
        rp.TextColumn("{task.description}", markup=False),
        rp.BarColumn(),
        rp.MofNCompleteColumn(),
        Rate(),
        rp.TimeRemainingColumn(),
        console=rich.console.Console(stderr=True),
    )


def _minutes(seconds: float) -> str:
    """Return e.g. ``0:04`` or ``1:02:03``."""
    minutes, secs = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{secs:02}" if hours else f"{minutes}:{secs:02}"


class Interrupt:
    """Whether the user, or the system, has asked the run to stop."""

    def __init__(self) -> None:
        self.stop = False


@contextmanager
def interruptible(interrupt: Interrupt | None = None) -> Iterator[Interrupt]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop, instead of a death.

    A command looks at ``.stop`` after each batch, saves, says how to resume and exits with 130.
    A second signal ends the process at once. Works in the main thread only.
    """
    interrupt = interrupt or Interrupt()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask_to_stop(_signal: int, _frame: FrameType | None) -> None:
        interrupt.stop = True
        restore()

    for number in before:
        signal.signal(number, ask_to_stop)
    try:
        yield interrupt
    finally:
        restore()
