"""A process that opens maps files before we do.

HDF5 is a large C library. In a process of its own each file is first opened, which follows all that
the library has to follow (headers, attributes, indexes, heaps); a file that ends it is refused.
"""
# Paths stay strings here: they are told to another process, which may stand in another folder.
# ruff: noqa: PTH100

from __future__ import annotations

import os
import signal
from pathlib import Path

from lcam_cli.errors import LcamError
from lcam_cli.sandbox import EndedError, SandboxProcess

SECONDS = 60.0
"""Of CPU time, after which a file is given up."""

TOO_LARGE = 3
"""The exit code that says that a file asks for more memory than it can need."""

_ENDS = {-signal.SIGPROF: "takes too long in HDF5", TOO_LARGE: "needs too much memory in HDF5"}

PROCESS = SandboxProcess("lcam_cli.maps.hdf5.sandbox_process", "reads maps")


def check(path: Path, method: str | None) -> None:
    """Return if reading the file harms nothing; whether it is in order the reader says.

    Args:
        path: The maps file.
        method: Whose maps, in a file that holds those of several methods.

    Raises:
        LcamError: if HDF5 crashes or hangs on it, or the process cannot be started.
    """
    try:
        PROCESS.ask([os.path.abspath(path), method], SECONDS)
    except EndedError as ended:
        how = _ENDS.get(ended.code, "crashes HDF5")
        raise LcamError(
            f"{path}: reading it {how}",
            "use a file from a source you trust: this one is damaged or malicious",
        ) from None
