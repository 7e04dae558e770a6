"""The process that opens maps files before the program does; ``sandbox.py`` is the other end."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from typing import Any

from lcam_cli.maps.hdf5.reader import MapsFile
from lcam_cli.maps.hdf5.sandbox import TOO_LARGE
from lcam_cli.sandbox_process import limit_memory, serve

_HEADROOM = 1 << 28
_BYTES_A_BYTE = 8


def main(seconds: float) -> None:
    """Try out the files that are asked for; CPU time of ``seconds`` each."""
    serve(_try_out, seconds)


def _try_out(question: Any) -> bool:
    path, method = question
    _limit_memory(Path(path))
    try:
        _read(Path(path), method)
    except Exception as error:
        if _is_for_memory(error):
            os._exit(TOO_LARGE)
        # What else can be told as an error, the program will meet and tell by itself.
    return True


def _read(path: Path, method: str | None) -> None:
    with MapsFile(path, method, trusted=True) as maps:
        _limit_memory(path, *(shard for shard, _, _ in maps.shards))
        maps.paths()
        ends = [(first, last) for _, first, last in maps.shards] or [(0, len(maps) - 1)]
        for row in itertools.chain.from_iterable(ends):
            maps.rows(row, row + 1)


def _limit_memory(*files: Path) -> None:
    """Allow what files of their size can honestly need."""
    if there := [file.stat().st_size for file in files if file.exists()]:
        limit_memory(_HEADROOM + _BYTES_A_BYTE * sum(there))


def _is_for_memory(error: BaseException | None) -> bool:
    """Whether memory that was refused is behind an error; HDF5 tells it in words alone."""
    if error is None:
        return False
    told = isinstance(error, MemoryError) or re.search("alloc|memory", str(error)) is not None
    return told or _is_for_memory(error.__cause__)
