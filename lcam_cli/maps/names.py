"""File names for images we write: inside the folder, and never two rows on one name.

A row ``sub/cat.jpg`` of class 281 becomes ``sub/cat.jpg.281.png``. The extension stays, so that
``cat.jpg`` and ``cat.png`` do not meet. Parts that could lead elsewhere or meet one of our own
names are percent-encoded, and so is ``%`` itself, which keeps the naming one-to-one.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path, PurePosixPath

from lcam_cli.errors import LcamError
from lcam_cli.locks import LOCK_NAME
from lcam_cli.maps.atomic import remove_leftovers

INFO_NAME = "info.json"
ROWS_NAME = "maps.jsonl"
SKIPPED_NAME = "skipped.jsonl"

# Folders of the input with such a name could stand where one of our files has to go.
_OURS = re.compile(r".*\.\d+\.(png|jpg|webp|tiff|npy)|info\.json|(maps|skipped)\.jsonl", re.DOTALL)

# File systems allow 255 bytes a name; the rest is room for ".<class>.<extension>".
_LONGEST_PART = 230


def output_name(row_path: str, class_index: int, extension: str) -> PurePosixPath:
    """Return the relative path for a row's image.

    Args:
        row_path: The path of the row, whatever it holds.
        class_index: The class explained.
        extension: Without the dot, e.g. ``"png"``.
    """
    path = PurePosixPath(row_path)
    *folders, name = [_safe(part) for part in path.parts] or ["%"]
    folders = [_encode_last_dot(part) if _OURS.fullmatch(part) else part for part in folders]
    return PurePosixPath(*folders, f"{name}.{class_index}.{extension}")


def _safe(part: str) -> str:
    part = part.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")
    if part == "..":
        return "%2E%2E"
    raw = os.fsencode(part)
    if len(raw) <= _LONGEST_PART:
        return part
    # A name near the limit: its beginning, for people, and its digest, to keep it apart.
    digest = hashlib.sha256(raw).hexdigest()[:24]
    return f"{os.fsdecode(raw[:200])}%{digest}"


def _encode_last_dot(part: str) -> str:
    stem, _, extension = part.rpartition(".")
    return f"{stem}%2E{extension}"


def claim_folder(folder: Path, *, may_exist: bool) -> None:
    """Make an output folder, refusing one that already holds something.

    What a killed run left half written there is removed.

    Args:
        folder: The folder to write into; made with its parents.
        may_exist: Whether the user asked to resume or to overwrite.

    Raises:
        LcamError: if it is not empty (and may not exist), no folder, or not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if may_exist:
            remove_leftovers(folder)
        occupied = any(entry.name != LOCK_NAME for entry in folder.iterdir())
    except OSError as error:
        raise LcamError(
            f"cannot write to the folder {folder}: {error.strerror}", "pass another folder"
        ) from error
    if occupied and not may_exist:
        raise LcamError(
            f"the folder {folder} is not empty", "pass --resume, --overwrite or another folder"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise LcamError(f"the folder {folder} is not writable", "pass another folder")
