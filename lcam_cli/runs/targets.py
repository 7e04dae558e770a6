"""Files that options name for results: refused before any work is done."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from lcam_cli.errors import LcamError

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")


def is_hdf5(out: Path) -> bool:
    """Whether a name is that of a maps file, and not of a folder."""
    return out.suffix.lower() in HDF5_SUFFIXES


def check_target(
    path: Path | None, option: str, overwrite: bool, suffixes: tuple[str, ...] = ()
) -> None:
    """Refuse a file that cannot be written, or may not be.

    Args:
        path: The file; None where the option was not given.
        option: Its name, for messages.
        overwrite: Whether what is there may be replaced.
        suffixes: What the name may end in, the usual one first; nothing allows all.

    Raises:
        LcamError: It ends in something else, exists, or is a folder.
    """
    if path is None:
        return
    if suffixes and path.suffix.lower() not in suffixes:
        raise LcamError(
            f"{option} {path} does not end in {suffixes[0]}", f"name a file *{suffixes[0]}"
        )
    if path.exists() and not overwrite:
        raise LcamError(f"{path} exists", f"use --overwrite or another {option}")
    if path.is_dir():
        raise LcamError(f"{option} {path} is a folder", "name a file")


def check_apart(path: Path | None, option: str, others: Mapping[str, Path | str | None]) -> None:
    """Refuse a file that another option names too.

    Args:
        path: The file; None where the option was not given.
        option: Its name, for messages.
        others: What other options read or write, by option.

    Raises:
        LcamError: Both are the same file.
    """
    if path is None:
        return
    real = os.path.realpath(path)
    for another, other in others.items():
        if other is not None and os.path.realpath(other) == real:
            raise LcamError(f"{option} and {another} name the same file, {path}", "name two")
