"""A process that opens maps files before we do.

HDF5 is a large C library, and a damaged or hostile file can crash it or have it run for ever. So
each file is first opened in a process of its own, which follows all that the library has to follow
(headers, attributes, indexes, heaps); a file that ends that process is refused. The process is
started with the first file, in a fraction of a second, and asked again for each further one.
"""
# Paths stay strings here: they are told to another process, which may stand in another folder.
# ruff: noqa: PTH100

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from lcam_cli.errors import LcamError

SECONDS = 60.0
"""Of CPU time, after which a file is given up."""

HARMLESS = b"."
TOO_LARGE = 3
"""The exit code that says that a file asks for more memory than it can need."""

# The process's modules come from where ours do, and from no folder besides.
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from lcam_cli.maps.hdf5.sandbox_process import main; main(float(sys.argv[2]))"
)


_ENDS = {-signal.SIGPROF: "takes HDF5 too long", TOO_LARGE: "takes HDF5 too much memory"}


class Sandbox:
    """The process; it starts with the first file, and anew after each that ended it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        atexit.register(self.close)

    def check(self, path: Path, method: str | None) -> None:
        """Return if reading the file harms nothing; whether it is in order the reader says.

        Args:
            path: The maps file.
            method: Whose maps, in a file that holds those of several methods.

        Raises:
            LcamError: if HDF5 crashes or hangs on it, or the process cannot be started.
        """
        with self._lock:
            process = self._process or _started()
            self._process = None  # unless it gets to its answer
            try:
                if _answers(process, json.dumps([os.path.abspath(path), method])):
                    self._process = process
                    return
                code = process.wait()
            finally:
                if self._process is None:
                    _end(process)
        how = _ENDS.get(code, "crashes HDF5")
        raise LcamError(f"{path}: reading it {how}", "it is damaged, or made to do so")

    def close(self) -> None:
        """End the process and release its pipes."""
        if self._process is not None:
            _end(self._process)
            self._process = None


def _started() -> subprocess.Popen[bytes]:
    words = [sys.executable, "-P", "-c", _START]
    words += [json.dumps([os.path.abspath(entry) for entry in sys.path]), str(SECONDS)]
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what a library says while it crashes
            bufsize=0,
            cwd=os.sep,
            process_group=0,  # Ctrl-C is for the program alone
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
    except OSError as error:
        raise LcamError(
            f"cannot start a process that reads maps: {error.strerror}", "free some memory"
        ) from None


def _answers(process: subprocess.Popen[bytes], question: str) -> bool:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(question.encode() + b"\n")
    except BrokenPipeError:
        return False
    return process.stdout.read(1) == HARMLESS


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


SANDBOX = Sandbox()
