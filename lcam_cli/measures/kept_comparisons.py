"""What comparisons have kept under ``runs/compare``: how much it is, and how to remove it.

Only what :mod:`~lcam_cli.measures.compare_state` makes counts, and goes: folders that are named by
a digest and hold nothing but its files. Links are never followed.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lcam_cli.errors import LcamError
from lcam_cli.locks import LOCK_NAME, lock_folder
from lcam_cli.maps.atomic import TEMPORARY

_FOLDER = re.compile(r"[0-9a-f]{16}")
_FILE = re.compile(r"[0-9a-f]{16}(\.\d+-\d+)?\.(npz|h5)")


@dataclass(frozen=True)
class KeptComparison:
    """What one comparison has kept.

    Attributes:
        folder: Its folder.
        size: Bytes.
        written: When something of it was last written, in seconds since the epoch.
    """

    folder: Path
    size: int
    written: float


def kept_comparisons(folder: Path) -> tuple[list[KeptComparison], list[Path]]:
    """Look at what comparisons have kept.

    Args:
        folder: Where they keep it; it need not exist.

    Returns:
        The comparisons, the last written first; and what else lies there, which is not ours.

    Raises:
        LcamError: The folder cannot be read.
    """
    kept, others = list[KeptComparison](), list[Path]()
    try:
        entries = sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise LcamError(f"cannot read {folder}: {error.strerror}", "name another folder") from error
    for entry in entries:
        found = _looked_at(entry)
        if found is None:
            others.append(entry)
        else:
            kept.append(found)
    return sorted(kept, key=lambda one: -one.written), others


def beyond(kept: Sequence[KeptComparison], limit: float) -> list[KeptComparison]:
    """Return those that have to go so that the last written fit into a limit.

    Args:
        kept: The comparisons, the last written first.
        limit: Bytes.
    """
    total, gone = 0, list[KeptComparison]()
    for one in kept:
        total += one.size
        if total > limit:
            gone.append(one)
    return gone


def remove_comparison(kept: KeptComparison) -> bool:
    """Remove what one comparison has kept; return whether it is gone.

    It stays where a comparison is at work in it, where something else has come into its folder, or
    where the system refuses.
    """
    if _looked_at(kept.folder) is None:
        return False
    with suppress(LcamError, OSError):
        with lock_folder(kept.folder):
            for name in _own_files(kept.folder):
                if name != LOCK_NAME:  # ours now; it goes with the lock
                    (kept.folder / name).unlink()
        kept.folder.rmdir()
        return True
    return False


def _looked_at(folder: Path) -> KeptComparison | None:
    """What a folder is; None where it is none of ours, or holds anything else."""
    if not _FOLDER.fullmatch(folder.name):
        return None
    try:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            return None
        own = set(_own_files(folder))
        if own != {entry.name for entry in folder.iterdir()}:
            return None
        files = [(folder / name).lstat() for name in own]
        written = max([file.st_mtime for file in files] or [folder.lstat().st_mtime])
    except OSError:
        return None
    return KeptComparison(folder, sum(file.st_size for file in files), written)


def _own_files(folder: Path) -> Iterator[str]:
    """The names of the plain files in a folder that a comparison makes."""
    for entry in sorted(folder.iterdir()):
        name = entry.name
        whole = name[1:].removesuffix(TEMPORARY) if name.endswith(TEMPORARY) else name
        if stat.S_ISREG(entry.lstat().st_mode) and (name == LOCK_NAME or _FILE.fullmatch(whole)):
            yield name
