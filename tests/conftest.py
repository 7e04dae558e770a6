"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path

# Where the suite is spread over processes, each computes with one thread, and so does what it
# starts. Torch reads it when it is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A shell without job control has its background jobs ignore Ctrl-C, and so would all they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of real photographs and weights; skips where it is missing."""
    folder = Path(os.environ.get("LCAM_REAL", ROOT.parent / "shared" / "real"))
    if not (folder / "mobilenet_v2_imagenet1k_fp16.pt").is_file():
        pytest.skip("no real photographs beside the project (set LCAM_REAL)")
    return folder
