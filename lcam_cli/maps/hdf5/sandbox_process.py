"""The process that opens maps files before the program does; ``sandbox.py`` is the other end."""

from __future__ import annotations

import itertools
import json
import os
import re
import resource
import signal
import sys
from pathlib import Path

from lcam_cli.maps.hdf5.reader import MapsFile
from lcam_cli.maps.hdf5.sandbox import HARMLESS, TOO_LARGE

_OWN_MEMORY = Path("/proc/self/statm")
_HEADROOM = 1 << 28
_BYTES_A_BYTE = 8


def main(seconds: float) -> None:
    """Try out the files named on stdin until it ends, as it does when the parent ends.

    Args:
        seconds: CPU time a file may take before the process ends.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        path, method = json.loads(line)
        # Not caught by Python: the kernel ends the process even inside HDF5.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        _limit_memory(Path(path))
        try:
            _read(Path(path), method)
        except Exception as error:
            if _is_for_memory(error):
                os._exit(TOO_LARGE)
            # What else can be told as an error, the program will meet and tell by itself.
        signal.setitimer(signal.ITIMER_PROF, 0)
        os.write(1, HARMLESS)


def _read(path: Path, method: str | None) -> None:
    with MapsFile(path, method, trusted=True) as maps:
        _limit_memory(path, *(shard for shard, _, _ in maps.shards))
        maps.paths()
        ends = [(first, last) for _, first, last in maps.shards] or [(0, len(maps) - 1)]
        for row in itertools.chain.from_iterable(ends):
            maps.rows(row, row + 1)


def _limit_memory(*files: Path) -> None:
    """Allow what is held now, and what files of their size can honestly need."""
    there = [file.stat().st_size for file in files if file.exists()]
    if not (_OWN_MEMORY.exists() and there):  # Linux tells what is held
        return
    held = int(_OWN_MEMORY.read_text().split()[0]) * resource.getpagesize()
    most = held + _HEADROOM + _BYTES_A_BYTE * sum(there)
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


def _is_for_memory(error: BaseException | None) -> bool:
    """Whether memory that was refused is behind an error; HDF5 tells it in words alone."""
    if error is None:
        return False
    told = isinstance(error, MemoryError) or re.search("alloc|memory", str(error)) is not None
    return told or _is_for_memory(error.__cause__)
