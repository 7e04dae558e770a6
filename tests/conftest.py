"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of real photographs and weights; skips where it is missing."""
    folder = Path(os.environ.get("LCAM_REAL", ROOT.parent / "shared" / "real"))
    if not (folder / "mobilenet_v2_imagenet1k_fp16.pt").is_file():
        pytest.skip("no real photographs beside the project (set LCAM_REAL)")
    return folder
