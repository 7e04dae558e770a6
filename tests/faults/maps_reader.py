"""A process that reads the maps files named on stdin to the last row, and tells how each went."""

from __future__ import annotations

import json
import resource
import signal
import sys
from pathlib import Path

from lcam_cli.errors import BadImageError, LcamError
from lcam_cli.maps.hdf5 import sandbox
from lcam_cli.maps.hdf5.reader import MapsFile

SECONDS = 60
"""After which a file is taken to hang; the process ends by SIGALRM."""


def read(path: Path) -> str:
    """Read everything there is in a file, as ``lcam evaluate`` would; return what was wrong."""
    try:
        with MapsFile(path) as maps:
            for row in maps.paths():
                try:
                    maps.resolve(row)
                except BadImageError:
                    continue
            for _ in maps.batches(64):
                pass
    except LcamError as error:
        return error.what
    return ""


def main() -> None:
    sandbox.SECONDS = 2  # of CPU time
    for line in sys.stdin:
        signal.alarm(SECONDS)
        wrong = read(Path(line.rstrip("\n")))
        signal.alarm(0)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps({"wrong": wrong, "memory": memory}), flush=True)
    sandbox.PROCESS.close()
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


if __name__ == "__main__":
    main()
