"""Where ``lcam`` and ``python -m lcam_cli`` start."""

from __future__ import annotations

import os
import signal
import sys

from lcam_cli.cli.app import lcam_app
from lcam_cli.cli.run import run


def main() -> None:
    """Run ``lcam`` on the words of the command line, and exit."""
    if "_LCAM_COMPLETE" in os.environ:  # the shell asks what could be typed next
        lcam_app()(prog_name="lcam")
    _share_cores()
    code = run(lcam_app(), sys.argv[1:])
    # All is written and said. A Ctrl-C from here on ends the process at once, as it would have
    # ended, instead of half-way through what Python and torch put away.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(code))
    sys.exit(code)


def _share_cores() -> None:
    """Have the threads that compute a layer sleep soon when they wait for each other.

    By default GNU OpenMP's spin for long, on cores that reading, drawing and writing need. It looks
    at the environment when torch is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


if __name__ == "__main__":
    main()
