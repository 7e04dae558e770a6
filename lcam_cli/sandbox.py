"""A process of its own in which strangers' files are opened before the program opens them.

Large C libraries follow what a file says, and a damaged or hostile one can crash them, have them
run for ever or take all memory. What ends the process is refused; the program goes on. It is
started with the first file and asked again for each further one. ``sandbox_process`` is its side.
"""
# Paths stay strings here: they are told to another process, which may stand in another folder.
# ruff: noqa: PTH100

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from typing import Any

from lcam_cli.errors import LcamError

# The process's modules come from where ours do, and from no folder besides.
_START = (
    "import importlib, json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "importlib.import_module(sys.argv[2]).main(float(sys.argv[3]))"
)


class EndedError(Exception):
    """The process ended without an answer.

    Attributes:
        code: With which exit code, or minus the number of the signal.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class SandboxProcess:
    """The process; it starts with the first question, and anew after each that ended it.

    Thread-safe: one question at a time.

    Args:
        module: Whose ``main`` it runs, with the seconds.
        task: What it does, for an error: ``"reads maps"``.
    """

    def __init__(self, module: str, task: str) -> None:
        self._module, self._task = module, task
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        atexit.register(self.close)

    def ask(self, question: object, seconds: float) -> Any:
        """Return its answer; question and answer are what JSON can say.

        Args:
            question: One that it knows.
            seconds: Of CPU time, after which a process that starts now gives a question up.

        Raises:
            EndedError: The question ended it.
            LcamError: It cannot be started.
        """
        with self._lock:
            process = self._process or self._started(seconds)
            self._process = None  # unless it gets to its answer
            try:
                answer = _answer(process, json.dumps(question))
                if answer is None:
                    raise EndedError(process.wait())
                self._process = process
                return json.loads(answer)
            finally:
                if self._process is None:
                    _end(process)

    def close(self) -> None:
        """End the process and release its pipes."""
        if self._process is not None:
            _end(self._process)
            self._process = None

    def _started(self, seconds: float) -> subprocess.Popen[bytes]:
        path = json.dumps([os.path.abspath(entry) for entry in sys.path])
        try:
            return subprocess.Popen(
                [sys.executable, "-P", "-c", _START, path, self._module, str(seconds)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # what a library says while it crashes
                cwd=os.sep,
                process_group=0,  # Ctrl-C is for the program alone
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        except OSError as error:
            raise LcamError(
                f"cannot start a process that {self._task}: {error.strerror}", "free some memory"
            ) from None


def _answer(process: subprocess.Popen[bytes], question: str) -> bytes | None:
    """What the process says, a line; None where it ends without one."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(question.encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        return None
    line = process.stdout.readline()
    return line if line.endswith(b"\n") else None


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:  # of what it was not told any more
                continue
