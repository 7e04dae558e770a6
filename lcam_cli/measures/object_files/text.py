"""Reading a text file that may be anything: bounded in size, UTF-8, in one line of error else."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lcam_cli.errors import LcamError

MOST_BYTES = 1 << 30
"""The largest file of boxes: COCO's own of 118,000 images, outlines included, has half of it."""


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """Return what a regular file holds.

    Raises:
        LcamError: It cannot be read, is no regular file, or is larger than ``most`` bytes.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe is not waited for
    with readable(path), os.fdopen(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise LcamError(f"{path} is not a regular file", "pass a file of boxes")
        if status.st_size > most:
            raise LcamError(
                f"{path} is larger than {most >> 20} MiB", "keep only the boxes of these images"
            )
        return file.read(most)


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, with or without its mark.

    Raises:
        LcamError: See :func:`read_bytes`; or it is not UTF-8.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LcamError(
            f"{path} is not UTF-8 text (byte {error.start})", "save it as UTF-8"
        ) from None


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what the system says of a file or folder within the block into an error of one line."""
    try:
        yield
    except OSError as error:
        raise LcamError(
            f"cannot read {path}: {error.strerror or error}", "check the path"
        ) from None
