"""One run at a time on an output.

A run holds a lock (``flock``) on a small hidden file in the folder it writes to, or beside the
file. The kernel lets go of the lock when the process ends, however it ends, so the file that a
``kill -9`` leaves behind refuses nobody. On NFS, Linux passes these locks on to the server, and
they hold between machines; the file says on which one the other run is.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from lcam_cli.errors import LcamError

LOCK_NAME = ".lcam.lock"
"""The lock file in a folder; that of ``maps.h5`` is ``.maps.h5.lcam.lock`` beside it."""

_NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
_LONGEST_OWNER = 300

log = logging.getLogger("lcam")


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep other runs from writing to a folder, which is made.

    Raises:
        LcamError: Another run is writing to it, or it cannot be written to.
    """
    with _locked(folder, folder / LOCK_NAME):
        yield


@contextlib.contextmanager
def lock_file(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep other runs from writing to a file, which need not exist; its folder is made.

    Args:
        path: The file.
        wait: Whether to wait while another run is writing to it.

    Raises:
        LcamError: Another run is writing to it, or its folder cannot be written to.
    """
    # Whichever way the file is spelt, by links too, there is one lock.
    real = Path(os.path.realpath(path))
    with _locked(path, real.with_name(f".{real.name}{LOCK_NAME}"), wait):
        yield


@contextlib.contextmanager
def _locked(output: Path, lock: Path, wait: bool = False) -> Iterator[None]:
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock = lock.parent.resolve() / lock.name  # the working folder may change meanwhile
        descriptor = _take(output, lock, wait)
    except OSError as error:
        raise LcamError(
            f"cannot write to {lock.parent}: {error.strerror or error}", "use another --out"
        ) from error
    try:
        yield
    finally:
        # First the name, then the lock: whoever comes in between makes a new file.
        with contextlib.suppress(OSError):
            lock.unlink()
        os.close(descriptor)


def _take(output: Path, lock: Path, wait: bool) -> int:
    """Return the open, locked lock file, with our name in it."""
    while True:
        # A link in its place could have us write to any file.
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            _lock(output, descriptor, wait)
            if _is_at(descriptor, lock):
                os.ftruncate(descriptor, 0)
                os.pwrite(
                    descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0
                )
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the run before us has just ended and removed it


def _lock(output: Path, descriptor: int, wait: bool) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        owner = os.pread(descriptor, _LONGEST_OWNER, 0).decode("utf-8", "replace")
        raise LcamError(
            f"{output} is being written by another run, {owner or 'which has just started'}",
            "wait for it, or use another output",
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS_HERE:
            raise
        log.warning(
            "the file system of %s has no locks: make sure that no other run writes there", output
        )


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
