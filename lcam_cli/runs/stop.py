"""Whether a run has been asked to end."""

from __future__ import annotations

from collections.abc import Callable

from lcam_cli.errors import LcamError


class Stop:
    """A caller's ``stop``, asked until it says True once: from then on the answer stays.

    A run asks in several places, and all of them must hear the same.

    Args:
        ask: The caller's function.

    Raises:
        LcamError: It is no function.
    """

    def __init__(self, ask: Callable[[], bool]) -> None:
        if not callable(ask):
            is_event = hasattr(ask, "is_set")
            raise LcamError(
                f"stop cannot be {ask!r}",
                "give its is_set" if is_event else "give a function that returns True or False",
            )
        self._ask = ask
        self._stopped = False

    def __call__(self) -> bool:
        """Ask, unless the answer has been True before."""
        self._stopped = self._stopped or bool(self._ask())
        return self._stopped

    @property
    def stopped(self) -> bool:
        """Whether the answer has been True."""
        return self._stopped
