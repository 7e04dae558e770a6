"""How an image is named in a maps file, and found again without trusting that file."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from lcam_cli.errors import BadImageError
from lcam_cli.working_folder import absolute


def stored_path(picture: str, root: str) -> str:
    """Return the name a row keeps: relative to ``root``, absolute where it lies outside.

    Both are compared as they are spelt, not where symbolic links lead, so that a folder of
    links to images keeps its own names.
    """
    here, base = (os.path.abspath(absolute(path)) for path in (picture, root))  # noqa: PTH100
    if os.path.commonpath([here, base]) != base:
        return here
    return os.path.relpath(here, base)


def resolve_path(row_path: str, folder: Path, *, named_by_caller: bool) -> Path:
    """Return where the image of a row lies, never outside ``folder``.

    Args:
        row_path: The path of a row, perhaps from a stranger's file.
        folder: The folder it must lie in.
        named_by_caller: Whether the user named the folder; only then are absolute paths
            followed, and only into that folder.

    Raises:
        BadImageError: if the path leads out of the folder.
    """
    row = PurePosixPath(row_path)
    if "\0" in row_path or ".." in row.parts or not row.parts:
        raise BadImageError("its path points outside the folder")
    if not row.is_absolute():
        return folder / row
    base = Path(os.path.abspath(folder))  # noqa: PTH100
    if named_by_caller and row.is_relative_to(base):
        return Path(row)
    raise BadImageError("outside the folder of the maps; pass its folder with --images")
