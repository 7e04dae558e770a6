"""The folder of a training run."""

from __future__ import annotations

import re
from pathlib import Path

from lcam_cli.errors import LcamError
from lcam_cli.maps.atomic import remove_leftovers
from lcam_cli.methods.attention_file import FILE_NAME
from lcam_cli.training.checkpoint import CHECKPOINT
from lcam_cli.training.results import SELECTION


def run_folder(backbone: str, mode: str) -> Path:
    """The default folder, ``runs/<backbone>-<mode>``, for any name a backbone can have."""
    name = re.sub(r"[^\w.-]+", "-", backbone.rpartition("/")[2]).strip("-.")
    return Path("runs") / f"{name}-{mode}"


def claim_run(folder: Path, *, resume: bool, overwrite: bool) -> bool:
    """Make a run's folder, refusing one that holds a run already.

    Returns:
        Whether there is a checkpoint to go on from; not so where the run was ended before its
        first, or where ``resume`` was not asked for.

    Raises:
        LcamError: A run is there and neither flag is set; or the folder cannot be made.
    """
    finished, begun = (folder / FILE_NAME).exists(), (folder / CHECKPOINT).exists()
    if resume and finished and not begun:
        raise LcamError(f"the run in {folder} is finished", "explain with it, or pass --overwrite")
    if (finished or begun) and not (resume or overwrite):
        raise LcamError(
            f"{folder} holds {'a finished' if finished else 'an interrupted'} run",
            f"pass {'--resume, ' if begun else ''}--overwrite or another --out",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        if overwrite and not resume:
            for earlier in (CHECKPOINT, SELECTION):
                (folder / earlier).unlink(missing_ok=True)
        (folder / "log.csv").open("a", encoding="utf-8").close()  # can it be written to?
    except OSError as error:
        raise LcamError(
            f"cannot write to {folder}: {error.strerror or error}", "pass another folder with --out"
        ) from None
    return resume and begun
