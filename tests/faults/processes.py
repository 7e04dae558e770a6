"""Commands as processes of their own, to be killed and interrupted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.conftest import ROOT

OWN = "from tests.tiny import tiny_network as net\n"
NETWORK = ["--backbone", "own.py:net", "--weights", "none", "--image-size", "32"]
NETWORK += ["--device", "cpu", "--workers", "2"]


def start(folder: Path, words: Sequence[str], module: str = "lcam_cli") -> subprocess.Popen[str]:
    """Start ``lcam`` in ``folder``, leader of a process group as in a terminal."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(process: subprocess.Popen[str], *words: str) -> str:
    """Read stderr up to the line that holds one of these words; return what was read."""
    assert process.stderr is not None
    read = ""
    for line in process.stderr:
        read += line
        if any(word in line for word in words):
            return read
    raise AssertionError(f"ended before it said {words!r}: {read}")
