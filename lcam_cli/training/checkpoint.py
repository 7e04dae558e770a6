"""``checkpoint.pt``: all that the rest of a training run depends on."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from lcam_cli.errors import LcamError
from lcam_cli.maps.atomic import atomic_file
from lcam_cli.networks.weights.checkpoint import read_checkpoint

CHECKPOINT = "checkpoint.pt"
_ANEW = "start again with --overwrite"


@dataclass
class Position:
    """Where a run is: the next batch to take, and the steps counted so far."""

    epoch: int = 0
    batch: int = 0
    step: int = 0


def save_checkpoint(
    path: Path,
    rows: nn.Module,
    optimisers: list[torch.optim.Optimizer],
    fingerprint: str,
    position: Position,
) -> None:
    """Write a checkpoint, whole or not at all, and to the disk itself: power may go at any time.

    Args:
        path: The file.
        rows: What is learned.
        optimisers: With their moments.
        fingerprint: What must be the same for the run to be continued.
        position: The next batch to take.

    Raises:
        OSError: The disk is full or fails; an earlier checkpoint is still there.
    """
    state = {
        "fingerprint": fingerprint,
        **vars(position),
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "rows": rows.state_dict(),
        "optimisers": [o.state_dict() for o in optimisers],
    }
    content = io.BytesIO()  # PyTorch's own writer does not survive a full disk
    torch.save(state, content)
    with atomic_file(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def sync_folder(folder: Path) -> None:
    """Have a rename in ``folder`` reach the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_checkpoint(
    path: Path,
    rows: nn.Module,
    optimisers: list[torch.optim.Optimizer],
    fingerprint: str,
) -> Position:
    """Put a checkpoint's state into what is given, and into the random generators.

    Nothing in the file is executed.

    Raises:
        LcamError: There is none, it is damaged or asks for code, or belongs to another run.
    """
    if not path.is_file():
        raise LcamError(f"nothing to resume: there is no {path}", "remove --resume")
    state = read_checkpoint(path)
    if state.get("fingerprint") != fingerprint:
        raise LcamError(
            f"{path} belongs to a run with other settings or images",
            f"pass the options the run was started with, or {_ANEW}",
        )
    try:
        position = Position(*(_count(state[name]) for name in ("epoch", "batch", "step")))
        rows.load_state_dict(state["rows"])
        for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        torch.set_rng_state(state["rng"])
        if torch.cuda.is_available() and state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"])
    except Exception as error:  # wrong types and shapes can raise anything
        raise LcamError(f"{path} is damaged: {type(error).__name__}", _ANEW) from None
    return position


def _count(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError
    return value
