"""What may go into the attention file: where a run started, or what it learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lcam_cli.methods.base import Method

START = "start"
LEARNED = "learned"
"""What goes into the attention file where nobody chooses."""


@dataclass(frozen=True)
class Choice:
    """The candidate that goes into the attention file.

    Attributes:
        name: Its name.
        record: Why it was chosen (JSON values); goes into the file's ``training``.
    """

    name: str
    record: dict[str, Any]


Choose = Callable[[Mapping[str, Method]], Choice | None]
"""Chooses one of them, given as methods by these names; None where it was stopped."""
