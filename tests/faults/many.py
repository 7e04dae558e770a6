"""One process that runs many commands, so that torch is imported once.

What one command leaves behind meets the next, as for whoever calls the library for days.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.conftest import ROOT


class Ended(NamedTuple):
    """How a command ended.

    ``memory`` is the most that the process and its reading processes held meanwhile, in KiB.
    """

    code: int
    out: str
    err: str
    memory: int


class Commands:
    """Runs commands one after the other; a crash fails the test that met it."""

    def __init__(self) -> None:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.many"],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, folder: Path, words: Sequence[str]) -> Ended:
        """Run ``lcam`` with these words in ``folder``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(folder), list(words)]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"crashed at {words}: {self._process.wait()}"
        return Ended(*json.loads(answer))

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def _processes() -> list[str]:
    """This process and those that read images for it."""
    found = ["self"]
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
            found += (task / "children").read_text().split()
    return found


def forget_peaks() -> None:
    """Let the peaks of memory begin at what is held now."""
    for pid in _processes():
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def memory(what: str) -> int:
    """The memory of this process and its reading processes together, in KiB.

    Args:
        what: ``VmHWM`` for the most they have held, ``VmRSS`` for what they hold.
    """
    total = 0
    for pid in _processes():
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith(what))
    return total


def main() -> None:
    from lcam_cli.__main__ import run
    from lcam_cli.cli.app import lcam_app

    for line in sys.stdin:
        folder, words = json.loads(line)
        os.chdir(folder)
        forget_peaks()
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(lcam_app(), words)
        print(json.dumps((code, out.getvalue(), err.getvalue(), memory("VmHWM"))), flush=True)


if __name__ == "__main__":
    main()
