"""Talking to the user: results on stdout, everything else on stderr."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, TextIO

from lcam_cli.cli.progress import Bar, PlainProgress, Silent, Spinner, live_progress
from lcam_cli.errors import LcamError
from lcam_cli.reports.text import printable, wrapped
from lcam_cli.runs.reporter import Counter, Reporter

if TYPE_CHECKING:
    import rich.console
    import rich.progress
    from rich.console import RenderableType

typed_command: ContextVar[str] = ContextVar("typed_command", default="")
"""The command line at work, as it was typed."""

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
            f"cannot write the result to stdout: {error.strerror}", "redirect it elsewhere"
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
        self.command = typed_command.get()
        self.quiet = quiet
        self._follows = follows
        self._interrupt = interrupt
        self._live: rich.console.Console | None = None
        self._spinner: Spinner | None = None

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

    def next(self, *words: str | Path) -> None:
        """Tell what to type next.

        Args:
            words: The command, a word each; what a shell would take apart is quoted.
        """
        self.info(f"next: {shlex.join(map(str, words))}")

    def error(self, what: str, hint: str = "") -> None:
        """Tell what went wrong and, on a second line, what to do about it."""
        self._end_spinner()
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
        self._end_spinner()
        out = _stdout()
        with written_to(out):  # at once: in a log, messages that follow stand below it
            out.write(text if text.endswith("\n") else f"{text}\n")
            out.flush()

    @property
    def width(self) -> int | None:
        """Columns of the terminal that stdout is; None where it is none."""
        return shutil.get_terminal_size().columns if _stdout().isatty() else None

    def table(self, renderable: RenderableType) -> None:
        """Draw a Rich table on stdout: styled on a terminal, plain and uncut elsewhere."""
        self._end_spinner()
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
                yield Silent()
            elif sys.stderr.isatty():
                with self._spinner_away(), live_progress(unit) as display:
                    self._live = display.console
                    try:
                        yield Bar(display, total, what)
                    finally:
                        self._live = None
            else:
                lines = PlainProgress(total, what, unit, sys.stderr)
                yield lines
                lines.close()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Show on a terminal that the command is at work, while no progress is shown.

        It starts before torch is imported, which takes seconds, and ends with the first result.
        """
        if not self.takes_info or not sys.stderr.isatty():
            yield
            return
        self._spinner = Spinner()
        self._show_spinner()
        try:
            yield
        finally:
            self._end_spinner()

    @contextmanager
    def _spinner_away(self) -> Iterator[None]:
        """Make room for a bar."""
        if self._spinner is None:
            yield
            return
        self._spinner.stop()
        try:
            yield
        finally:
            self._show_spinner()

    def _show_spinner(self) -> None:
        if self._spinner is not None:
            self._spinner.start()
            self._live = self._spinner.console

    def _end_spinner(self) -> None:
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = self._live = None

    def _say(self, message: str) -> None:
        line = _wrapped(printable(message))
        if self._live is None:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
        else:  # above the bar, which would otherwise be drawn over the message
            self._live.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)


def _wrapped(line: str) -> str:
    """Break a line between words where a terminal would break it within one.

    Commands stay in one line, so that they can be copied.
    """
    if line.startswith("next: ") or not sys.stderr.isatty():
        return line
    return "\n".join(wrapped(line, shutil.get_terminal_size().columns))


def _stdout() -> TextIO:
    return _results or sys.stdout


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
