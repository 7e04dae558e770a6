"""Work done behind the caller's back: in order, bounded, and never past a failure."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from lcam_cli.runs.background import BackgroundCalls


def test_results_come_back_once_and_in_order() -> None:
    behind: BackgroundCalls[int] = BackgroundCalls()
    got = [result for k in range(10) for result in behind.do(partial(int, k))]
    assert got + behind.wait() == list(range(10))
    assert behind.wait() == []
    behind.close()


def test_the_caller_goes_on_but_never_far_ahead() -> None:
    behind: BackgroundCalls[None] = BackgroundCalls()
    gate, begun = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        gate.wait(20)

    behind.do(slow)
    assert begun.wait(20)
    behind.do(lambda: None)  # returned, though the first is not done
    third = threading.Thread(target=behind.do, args=(lambda: None,))
    third.start()
    third.join(0.2)
    assert third.is_alive()
    gate.set()
    third.join(20)
    assert not third.is_alive()
    behind.close()


def test_nothing_is_done_after_a_failure() -> None:
    behind: BackgroundCalls[None] = BackgroundCalls()
    done: list[int] = []
    gate = threading.Event()

    def fail() -> None:
        gate.wait(20)
        raise OSError("full")

    behind.do(fail)
    behind.do(lambda: done.append(1))
    gate.set()
    with pytest.raises(OSError, match="full"):
        behind.do(lambda: done.append(2))
    with pytest.raises(OSError, match="full"):
        behind.wait()
    behind.close()
    assert not done
