"""Runs many commands in one process: a JSON list of words a line on stdin, an answer a line.

So torch is imported once, and what one command leaves behind meets the next.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.conftest import ROOT


class Ended(NamedTuple):
    """How a command ended.

    ``memory`` is the most that this process, and its reading processes, ever held, in KiB.
    """

    code: int
    out: str
    err: str
    memory: int


def run_many(commands: Sequence[Sequence[str]], folder: Path) -> Iterator[Ended]:
    """Run the commands in ``folder``; fewer answers than commands: the next crashed."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.many"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        input="".join(json.dumps(list(words)) + "\n" for words in commands),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        yield Ended(*json.loads(line))


def peak_memory() -> int:
    """The most memory that this process and its reading processes have held, in KiB."""
    from lcam_cli.images import decoder

    return sum(peak_of(pid) for pid in (os.getpid(), *(d._process.pid for d in decoder._idle)))


def peak_of(pid: int) -> int:
    """The most memory that a process has held, in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def main() -> None:
    from lcam_cli.__main__ import run
    from lcam_cli.cli.app import lcam_app

    for line in sys.stdin:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(lcam_app(), json.loads(line))
        print(json.dumps((code, out.getvalue(), err.getvalue(), peak_memory())), flush=True)


if __name__ == "__main__":
    main()
