"""Several ranks of ``lcam``, with torchrun or brought together by hand."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests import warm
from tests.conftest import ROOT

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def torchrun(
    folder: Path, words: Sequence[str], ranks: int, module: str = "lcam_cli"
) -> subprocess.Popen[str]:
    """Start ranks with torchrun; its agent is the process that is returned."""
    agent = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
    agent += ["--master-port", str(free_port())]
    return _start(folder, [*agent, "-m", "--", module, *words], ENVIRONMENT)


def warm_torchrun(folder: Path, words: Sequence[str], ranks: int) -> subprocess.Popen[str]:
    """The same for ranks that nobody kills or looks for: they start with their imports done."""
    agent = ["--nproc-per-node", str(ranks), "--master-port", str(free_port()), "--no-python"]
    line = warm.words(*agent, "--", *warm.words(*words), module="torch.distributed.run")
    return _start(folder, line[1:], ENVIRONMENT)


def by_hand(folder: Path, words: Sequence[str], ranks: int) -> list[subprocess.Popen[str]]:
    """Start ranks that nobody watches but they themselves."""
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    meeting["WORLD_SIZE"] = str(ranks)
    return [
        _start(folder, ["-m", "lcam_cli", *words], {**ENVIRONMENT, **meeting, "RANK": str(rank)})
        for rank in range(ranks)
    ]


def ranks_of(agent: subprocess.Popen[str]) -> list[int]:
    """Return the processes that torchrun has started, by rank."""
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    found = {}
    for child in children:
        try:
            variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        except OSError:  # it has ended since
            continue
        ranks = [v[5:] for v in variables if v.startswith(b"RANK=")]
        if ranks:
            found[int(ranks[0])] = int(child)
    return [found[rank] for rank in sorted(found)]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _start(folder: Path, words: Sequence[str], env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
