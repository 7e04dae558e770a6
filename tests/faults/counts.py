"""How much a harness does: little in the suite, all of it with ``LCAM_FULL=1``."""

from __future__ import annotations

import os


def count(suite: int, full: int) -> int:
    return full if os.environ.get("LCAM_FULL") else suite
