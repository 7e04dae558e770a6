from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from lcam_cli.runs.budget import Budget


def test_what_is_taken_at_once_stays_within_the_total() -> None:
    """Small ones go on together; one that wants all there is, or more, goes on alone."""
    budget, lock = Budget(10), threading.Lock()
    held: list[int] = []
    most, alone = 0, []

    def work(amount: int) -> None:
        nonlocal most
        with budget.taking(amount):
            with lock:
                held.append(amount)
                most = max(most, len(held))
                if amount >= 10:
                    alone.append(held == [amount])
                else:
                    assert sum(held) <= 10
            time.sleep(0.005)
            with lock:
                held.remove(amount)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, [3, 3, 50, 4, 3, 10, 2, 2, 2, 5] * 4))
    assert alone == [True] * 8
    assert most >= 2


def test_a_failure_gives_back_what_it_took() -> None:
    budget = Budget(1)
    for _ in range(3):
        try:
            with budget.taking(1):
                raise ValueError
        except ValueError:
            pass
    with budget.taking(1):
        pass
