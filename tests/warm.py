"""``lcam`` as a process whose imports are done: one that has done them forks for each command.

Most of a short command's time goes to importing torch. Where a test is of what a command does, and
not of how it starts or dies, it may run ``words(…)`` in place of ``python -m lcam_cli …``: a small
client, which hands its words, folder, variables and streams to the server and exits as the command
does. The command itself is a whole process of its own, from ``main()`` to the interpreter's end.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.conftest import ROOT

CLIENT = Path(__file__).with_name("warm_client.py")


def words(*command: str, module: str = "lcam_cli") -> list[str]:
    """The command line that runs a module of ours, by the server that this process shares."""
    # Without site-packages, which the client does not need, it starts in a few milliseconds.
    return [sys.executable, "-I", "-S", str(CLIENT), _server(), module, *command]


@functools.cache
def _server() -> str:
    """Start the server; the path of its socket."""
    folder = tempfile.TemporaryDirectory(prefix="warm-")
    path = str(Path(folder.name) / "socket")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LCAM_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.warm", path],
        cwd=ROOT,
        env={**kept, "PYTHONPATH": str(ROOT), "GOMP_SPINCOUNT": "1000"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )

    def stop() -> None:
        process.kill()
        process.wait()
        folder.cleanup()

    atexit.register(stop)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return path


def serve(path: str) -> None:
    """Import everything, then fork for each client; returns in the forks alone, ready to run."""
    import lcam_cli

    for module in pkgutil.walk_packages(lcam_cli.__path__, "lcam_cli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    gc.freeze()  # what is shared stays so
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that answer
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        while True:
            client, _ = listener.accept()
            with client:
                if os.fork() == 0:
                    listener.close()
                    return _answer(client)


def _answer(client: socket.socket) -> None:
    """Fork once more, for the command; wait for its end and tell the client."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    length, streams, _, _ = socket.recv_fds(client, 4, 3)
    told = b""
    while len(told) < int.from_bytes(length, "big"):
        told += client.recv(1 << 16)
    command = os.fork()
    if command != 0:
        _, status = os.waitpid(command, 0)
        with contextlib.suppress(OSError):  # the client may have been ended
            client.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
        os._exit(0)
    folder, variables, module, line = json.loads(told)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", buffering=1 if os.isatty(1) else -1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.path[0] = folder
    sys.argv = [module, *line]


if __name__ == "__main__":
    serve(sys.argv[1])
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
