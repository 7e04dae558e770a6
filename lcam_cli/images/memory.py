"""A bound on the memory that a decoder may take, in a reading process."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

_STATM = Path("/proc/self/statm")
_DATA = 5


@contextlib.contextmanager
def memory_limited(size: int) -> Iterator[None]:
    """Have allocations fail, as a ``MemoryError``, once the process has so much more than now.

    The limit is the whole process's. Where the system does not tell how much a process has, which
    Linux does, there is none.

    Args:
        size: Bytes.
    """
    try:
        pages = int(_STATM.read_text().split()[_DATA])
    except (OSError, ValueError, IndexError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = pages * resource.getpagesize() + size
    limits = [limit for limit in (wanted, soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
