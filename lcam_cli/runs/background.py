"""Writing behind the computation's back: one thread, in order, never far behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from lcam_cli.threads import in_this_context

T = TypeVar("T")

_AT_MOST_WAITING = 2


class BackgroundCalls(Generic[T]):
    """Calls functions one after the other in a thread, while the caller goes on.

    After a call has failed no later one is made, so that nothing is written past a gap.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="lcam-write")
        self._pending: deque[Future[T]] = deque()
        self._failed: BaseException | None = None

    def do(self, work: Callable[[], T]) -> list[T]:
        """Have ``work`` called; waits while two calls are outstanding.

        Returns:
            What earlier calls have returned, each once, in order.

        Raises:
            BaseException: What an earlier call raised.
        """
        results = self._finished(_AT_MOST_WAITING - 1)
        self._pending.append(self._pool.submit(self._attempt, in_this_context(work)))
        return results

    def wait(self) -> list[T]:
        """Wait until all is done, and return what :meth:`do` has not.

        Raises:
            BaseException: What a call raised.
        """
        return self._finished(0)

    def close(self) -> None:
        """Wait until all is done, and end the thread."""
        self._pool.shutdown()

    def _finished(self, outstanding: int) -> list[T]:
        results = []
        while len(self._pending) > outstanding:
            results.append(self._pending.popleft().result())
        return results

    def _attempt(self, work: Callable[[], T]) -> T:
        if self._failed is not None:
            raise self._failed
        try:
            return work()
        except BaseException as error:
            self._failed = error
            raise
