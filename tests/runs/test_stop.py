"""A ``stop`` that says True once has said it for good."""

from __future__ import annotations

from itertools import count

from lcam_cli.runs.stop import Stop


def test_once_is_for_good() -> None:
    asked = count(1)
    stop = Stop(lambda: next(asked) == 2)
    assert not stop()
    assert not stop.stopped, "it has not been asked again"
    assert [stop(), stop(), stop.stopped] == [True, True, True]
    assert next(asked) == 3, "and it is not asked any more"
