"""Tars that a command prints, in WebDataset's spelling (``pipe:curl -s …``): stored, then read.

Stored, because images of a tar are read in any order, by several processes, and once more by
``lcam evaluate`` and ``--resume``.
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from lcam_cli.errors import LcamError
from lcam_cli.images.tars import read_index
from lcam_cli.locks import lock_file
from lcam_cli.maps.atomic import atomic_file, cannot_write

FOLDER = Path("runs/pipes")
"""Where tars are stored, below the current folder."""

_PIPE = "pipe:"
_DIGITS = 12


def is_pipe(item: str) -> bool:
    """Whether an input is a command."""
    return item.startswith(_PIPE)


def stored(item: str, folder: Path = FOLDER) -> str:
    """Run a command, unless that was done before, and return the tar that it printed.

    Only for what the user typed: whatever a list or a file has in it is no command.

    Args:
        item: ``"pipe:"`` and a line for the shell.
        folder: Where it is stored, under a name made of the command.

    Raises:
        LcamError: The command failed or printed no whole tar, or that cannot be written.
    """
    tar = place_of(item, folder)
    with lock_file(tar, wait=True):  # the other shards of a job array may have the same tars
        if not tar.exists():
            _store(item, tar)
    return str(tar)


def place_of(item: str, folder: Path = FOLDER) -> Path:
    """Return where the tar of a command is stored, a name made of the command."""
    digest = hashlib.sha256(_command(item).encode("utf-8", "surrogateescape")).hexdigest()
    return folder / f"{digest[:_DIGITS]}.tar"


def _command(item: str) -> str:
    return item.removeprefix(_PIPE).strip()


def _store(item: str, tar: Path) -> None:
    try:
        with atomic_file(tar) as temporary:
            with temporary.open("wb") as file:
                ended = subprocess.run(
                    _command(item),
                    shell=True,
                    check=False,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                )
            if ended.returncode:
                why = f"it ended with exit code {ended.returncode}"
            else:
                index = read_index(str(temporary))
                why = index.broken or ("" if index.places else "it printed no tar of images")
            if why:  # and what it printed is not kept
                raise LcamError(f"{item}: {why}", "run the command alone to see why")
    except OSError as error:
        hint = "free some space, or start in a folder of another disk"
        raise cannot_write(tar, error, needed="the whole tar", hint=hint) from error
