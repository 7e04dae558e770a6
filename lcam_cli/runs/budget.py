"""A bound on what several threads hold in memory at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Budget:
    """Lets threads go on while what they have taken stays within a total.

    Args:
        total: In whatever unit; whoever wants more than this goes on alone.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._taken = 0
        self._changed = threading.Condition()

    @contextmanager
    def taking(self, amount: int) -> Iterator[None]:
        """Wait until there is so much left, and take it for the block."""
        amount = min(amount, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._taken + amount <= self._total)
            self._taken += amount
        try:
            yield
        finally:
            with self._changed:
                self._taken -= amount
                self._changed.notify_all()
