"""The files of a folder and those below it, and none outside it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from lcam_cli.measures.object_files.text import readable


@dataclass
class FolderFiles:
    """What a folder holds.

    Attributes:
        found: Paths relative to the folder, with ``/``, sorted, of files of the extension asked
            for.
        links: Links that lead outside the folder, or to folders: none is followed.
        others: How many other files there are.
    """

    found: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    others: int = 0

    def notes(self, folder: Path) -> list[str]:
        """Say which links are not followed, in a line; none where there are no links."""
        if not self.links:
            return []
        words = "1 link is" if len(self.links) == 1 else f"{len(self.links)} links are"
        return [
            f"{folder}: {words} not followed because they lead to folders or outside "
            f"this folder, e.g. {self.links[0]}"
        ]


def files_in(folder: Path, extension: str) -> FolderFiles:
    """List the files of an extension in a folder and those below it.

    Hidden ones are passed over. A link counts as what it leads to where that is a file in the same
    folder or below it.

    Args:
        folder: The folder.
        extension: Such as ``".png"``, in lower case.

    Raises:
        LcamError: A folder cannot be listed.
    """
    top = os.path.realpath(folder)
    listed = FolderFiles()
    pending = [""]
    while pending:
        below = pending.pop()
        with readable(folder / below), os.scandir(folder / below) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                name = f"{below}/{entry.name}" if below else entry.name
                if entry.is_symlink() and not _is_file_within(entry.path, top):
                    listed.links.append(name)
                elif entry.is_dir(follow_symlinks=False):
                    pending.append(name)
                elif entry.name.lower().endswith(extension):
                    listed.found.append(name)
                else:
                    listed.others += 1
    listed.found.sort()
    listed.links.sort()
    return listed


def _is_file_within(path: str, top: str) -> bool:
    real = os.path.realpath(path)
    return os.path.commonpath([real, top]) == top and os.path.isfile(real)  # noqa: PTH113
