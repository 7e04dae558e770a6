"""How a command ends that its user interrupts, or that leaves pictures out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lcam_cli.cli.console import Console, Interrupt, interruptible
from lcam_cli.runs.reporter import Counter


class StoppableConsole(Console):
    """A console on which the first Ctrl-C, while progress is shown, asks the run to stop.

    At any other time, as while a network is loaded, it ends the command.

    Args:
        quiet: As of :class:`Console`.
        follows: The same.
    """

    def __init__(self, quiet: bool = False, *, follows: bool = False) -> None:
        super().__init__(quiet, follows=follows)
        self._interrupt = Interrupt()

    def stop(self) -> bool:
        """Whether the user has asked the run to stop."""
        return self._interrupt.stop

    @contextmanager
    def progress(self, total: int, what: str, unit: str) -> Iterator[Counter]:
        """See :meth:`Console.progress`."""
        with interruptible() as self._interrupt, super().progress(total, what, unit) as counter:
            yield counter


def exit_code(left_out: str, console: Console) -> int:
    """Return 3 where pictures are left out, and say so; else 0.

    Args:
        left_out: How many and why, in words; empty where none is.
        console: Where it is said.
    """
    if left_out:
        console.warn(f"{left_out} (exit code 3)")
    return 3 if left_out else 0
