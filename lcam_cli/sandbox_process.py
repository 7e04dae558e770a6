"""What a process that opens strangers' files does; ``sandbox`` is the program's side."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_HELD = Path("/proc/self/statm")


def serve(answer: Callable[[Any], object], seconds: float) -> None:
    """Answer the questions on stdin until it ends, as it does when the program ends.

    Args:
        answer: Gives what JSON can say, to a question of a line.
        seconds: CPU time a question may take before the process ends.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What libraries print must not pass for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        # Not caught by Python: the kernel ends the process even inside a library.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        said = answer(json.loads(line))
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(said), file=answers, flush=True)


def limit_memory(more: int) -> None:
    """Allow what is held now and so many bytes more, where the system says what is held."""
    if _HELD.exists():
        held = int(_HELD.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + more, resource.RLIM_INFINITY))
