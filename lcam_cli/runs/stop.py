"""Whether a run has been asked to end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lcam_cli.runs.checks import WrongValueError, checked
from lcam_cli.runs.reporter import call_outside


class Stop:
    """A caller's ``stop``, asked until it says True once: from then on the answer stays.

    A run asks in several places, and all of them must hear the same.

    Args:
        ask: The caller's function.

    Raises:
        LcamError: It is no function.
    """

    def __init__(self, ask: Callable[[], bool]) -> None:
        self._ask = checked("stop", ask, _function)
        self._stopped = False

    def __call__(self) -> bool:
        """Ask, unless the answer has been True before."""
        self._stopped = self._stopped or bool(call_outside(self._ask))
        return self._stopped

    @property
    def stopped(self) -> bool:
        """Whether the answer has been True."""
        return self._stopped


def _function(value: Any) -> Any:
    """A function; of an event that is its ``is_set``."""
    if callable(value):
        return value
    if callable(getattr(value, "is_set", None)):
        raise WrongValueError("its is_set")
    raise WrongValueError("a function that returns True or False")
