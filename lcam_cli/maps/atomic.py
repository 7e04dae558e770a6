"""Files that are whole under their name, or not there: whatever kills the run, power included."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lcam_cli.errors import LcamError

TEMPORARY = ".lcam.tmp"
"""What the names of files end in that are not whole yet; they begin with a dot."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_file(target: Path, *, synced: bool = True) -> Iterator[Path]:
    """Give a temporary path beside ``target`` that becomes it when the block ends well.

    Whoever looks at ``target`` sees a whole file or none, also when the run is killed, and after
    the block it is on disk. Its folder is made. Only one run at a time may write a target: what
    another left under the temporary name is removed. A new file has the mode that umask gives; one
    that takes another's place keeps that one's.

    Args:
        target: The file.
        synced: False leaves syncing to the caller, who does it before it says that the file is
            there: until then a power failure may leave it empty.

    Raises:
        OSError: It cannot be written.
    """
    _make_folder(target.parent)
    temporary = target.with_name(f".{target.name}{TEMPORARY}")
    temporary.unlink(missing_ok=True)  # it could even be a link
    try:
        yield temporary
        if synced:  # without this the new name can reach the disk before the data does
            sync(temporary)
        keep_mode(temporary, target)
        temporary.replace(target)
        if synced:
            sync_folder(target.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def current_umask() -> int:
    """Return the program's umask; the system tells it only when it is set."""
    mask = os.umask(0o077)  # a file that another thread makes meanwhile is its owner's alone
    os.umask(mask)
    return mask


def keep_mode(new: Path, old: Path) -> None:
    """Give a file the permissions of the one whose place it takes, if there is one.

    Its owner may always read and write it: what is under the new name is often gone on with.
    """
    with suppress(OSError):  # there is none, or the file system has no modes
        mode = old.stat().st_mode
        if stat.S_ISREG(mode):
            new.chmod(stat.S_IMODE(mode) | stat.S_IRUSR | stat.S_IWUSR)


def write_atomically(target: Path, *pieces: bytes | memoryview, synced: bool = True) -> None:
    """Write a file of some pieces, whole or not at all; see :func:`atomic_file`.

    Raises:
        OSError: It cannot be written.
    """
    with atomic_file(target, synced=synced) as temporary, temporary.open("wb") as file:
        for piece in pieces:
            file.write(piece)


def remove(path: Path) -> None:
    """Remove a file, if it is there, so that it is gone from the disk.

    Raises:
        OSError: It cannot be removed.
    """
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove from a folder, and those below it, what killed runs left under temporary names.

    Raises:
        OSError: One cannot be removed.
    """
    for where, _, names in os.walk(folder):
        for name in names:
            if name.startswith(".") and name.endswith(TEMPORARY):
                Path(where, name).unlink(missing_ok=True)


def cannot_write(
    target: Path, error: OSError | RuntimeError, *, needed: str, hint: str
) -> LcamError:
    """Return the error that tells why a file could not be written.

    Args:
        target: The file or folder.
        error: What happened.
        needed: How much was still to be written, in words; told where the disk is full.
        hint: What to do.
    """
    # The HDF5 library wraps the system's error in a text of its own.
    wrapped = re.search(r"errno = (\d+)", str(error))
    number = int(wrapped[1]) if wrapped else getattr(error, "errno", None)
    why = os.strerror(number) if number else str(error)
    if number in _NO_ROOM:
        there = next(path for path in (target, *target.parents) if path.is_dir())
        free = shutil.disk_usage(there).free
        why += f": {needed} more is needed, {human_size(free)} is free on that disk"
    return LcamError(f"cannot write {target}: {why}", hint)


def _make_folder(folder: Path) -> None:
    """Make a folder with its parents, so that they are on disk."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk."""
    try:
        sync(folder)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems know no such thing
            raise


def sync(path: Path) -> None:
    """Bring what is in a file to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def human_size(count: int) -> str:
    """Return a number of bytes for people, e.g. ``12.3 MB``."""
    amount, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
