"""The process that opens maps files before the program does; ``trial.py`` is the other end."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
from pathlib import Path

from lcam_cli.maps.hdf5_reader import MapsFile
from lcam_cli.maps.trial import HARMLESS


def main(seconds: float) -> None:
    """Try out the files named on stdin until it ends, as it does when the parent ends.

    Args:
        seconds: CPU time a file may take before the process ends.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        path, method = json.loads(line)
        # Not caught by Python: the kernel ends the process even inside HDF5.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        # What can be told as an error, the program will meet and tell by itself.
        with contextlib.suppress(Exception), MapsFile(Path(path), method, tried=True) as maps:
            maps.paths()
            maps.rows(0, 1)
            maps.rows(len(maps) - 1, len(maps))
        signal.setitimer(signal.ITIMER_PROF, 0)
        os.write(1, HARMLESS)
