"""The device of these tests: a CUDA GPU, or what ``LCAM_GPU_DEVICE`` names for a rehearsal."""

from __future__ import annotations

import os

import pytest
import torch

DEVICE = os.environ.get("LCAM_GPU_DEVICE", "cuda")


@pytest.fixture
def device() -> str:
    """The device that is compared with the CPU; skips where it is missing."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA GPU here")
    return DEVICE


@pytest.fixture
def gpu(device: str) -> str:
    """The same, for what only a GPU can show."""
    if not device.startswith("cuda"):
        pytest.skip("only a GPU can show this")
    return device
