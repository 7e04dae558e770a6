"""Threads that know which run they work for."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def in_this_context(function: Callable[P, T]) -> Callable[P, T]:
    """Return a function that does the same in another thread as here.

    A new thread begins without this one's context variables, which say whose warnings are whose.
    """
    context = copy_context()

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        # A copy, since a context can be in one thread at a time.
        return context.copy().run(function, *args, **kwargs)

    return call
