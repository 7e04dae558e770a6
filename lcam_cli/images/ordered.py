"""Many questions to reading processes, at once, with their answers in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from lcam_cli.images.decoder import Decoder, borrowed_decoder
from lcam_cli.threads import in_this_context

# What a reader that is asked to stop has for the image it is at.
_SECONDS_TO_END = 1.0

T = TypeVar("T")
A = TypeVar("A")

Lend = Callable[[], AbstractContextManager[Decoder]]
"""Lends a process that nobody uses, for a block."""


def in_order(
    items: Iterable[T], ask: Callable[[T, Lend], A], workers: int, ahead: int
) -> Generator[tuple[T, A]]:
    """Yield each item with its answer, in order, never more than ``ahead`` of them waiting.

    A thread stands by each process: it hands on a request and waits for the answer. Closing the
    iterator early stops at once or within a second.

    Args:
        items: What is asked about.
        ask: Gives the answer for an item; several threads call it at once.
        workers: How many processes there may be at work.
        ahead: Of answers.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="lcam-read")
    pending: deque[tuple[T, Future[A]]] = deque()
    busy: set[Decoder] = set()

    @contextmanager
    def lend() -> Iterator[Decoder]:
        with borrowed_decoder() as decoder:
            busy.add(decoder)
            try:
                yield decoder
            finally:
                busy.remove(decoder)

    @in_this_context
    def attempt(item: T) -> A:
        return ask(item, lend)

    try:
        for item in items:
            if len(pending) == ahead:
                done, future = pending.popleft()
                yield done, future.result()
            pending.append((item, pool.submit(attempt, item)))
        while pending:
            done, future = pending.popleft()
            yield done, future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        wait([future for _, future in pending if not future.cancelled()], _SECONDS_TO_END)
        for decoder in busy.copy():  # an image that takes long, or for ever
            decoder.kill()
        pool.shutdown()
