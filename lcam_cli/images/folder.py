"""The images in a folder and those below it, in an order no machine changes."""
# Paths stay strings, as in find.py.
# ruff: noqa: PTH100, PTH112

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from lcam_cli.errors import LcamError
from lcam_cli.images.formats import extension_of, needs_no_extension, picture_extensions
from lcam_cli.images.npy import has_other_shape
from lcam_cli.images.own_outputs import OutputKind, find_own_outputs
from lcam_cli.images.passed_over import PassedOver
from lcam_cli.images.picture import head_of
from lcam_cli.images.unread import (
    MOST_OPENED,
    advice,
    extension_counts,
    is_system_file,
    is_unread_format,
    known_extension,
    looks_like_picture,
    may_be_picture,
)

# Those that most images have, of all that are read.
_USUAL = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".jp2", ".avif")
_OTHERS_SHOWN = 3

# A path, whether it is a folder, and what lcam has written into the one that it lies in.
_Pending = tuple[str, bool, OutputKind | None]


class FolderWalk:
    """The way through a folder and those below it.

    Args:
        top: The folder, as it was named.
        seen: The absolute paths of the folders met so far, which have been told of.
        skip: Called with each folder that cannot be listed, and why.

    Attributes:
        passed_over: What is passed over in folders that are met for the first time.
    """

    def __init__(self, top: str, seen: set[str], skip: Callable[[str, str], None]) -> None:
        self._top = top
        self._seen = seen
        self._skip = skip
        self._extensions = picture_extensions()
        self._looked_into = 0
        # Of all folders, for whoever finds no image in any; told are those of new ones.
        self._others: Counter[str] = Counter()
        self._all = PassedOver()
        self.passed_over = PassedOver()

    def pictures(self) -> Iterator[str]:
        """Yield the path of each image, in order."""
        # A stack: folders may be nested deeper than calls can be.
        pending: list[_Pending] = [(self._top, True, None)]
        while pending:
            path, is_folder, kind = pending.pop()
            if is_folder:
                pending += self._look_into(path, kind)
            else:
                yield path

    def _look_into(self, folder: str, kind: OutputKind | None) -> Iterator[_Pending]:
        """Yield the images and the folders in a folder, the last one first; note the rest."""
        try:
            with os.scandir(folder) as listed:
                entries = list(listed)
        except OSError as error:
            if folder == self._top:
                raise LcamError(f"cannot list {folder}: {reason_of(error)}", "") from error
            self._skip(folder, f"cannot list the folder: {reason_of(error)}")
            return
        notes = [self._all, *([self.passed_over] if is_new(folder, self._seen) else [])]
        own = find_own_outputs(folder, {entry.name for entry in entries}, kind)
        shown = [entry for entry in entries if not entry.name.startswith(".")]
        shown.sort(key=lambda entry: os.fsencode(entry.name), reverse=True)
        for entry in shown:
            name = entry.name
            if entry.is_dir(follow_symlinks=False):
                if not is_system_file(name, folder=True):
                    yield entry.path, True, own.folders.get(name, own.pictures)
            elif entry.is_symlink() and os.path.isdir(entry.path):
                for noted in notes:
                    noted.linked.append(entry.path)
            elif not self._is_picture(entry, notes):
                pass
            elif ours := own.what_is(name):
                for noted in notes:
                    noted.own[ours] += 1
            else:
                yield entry.path, False, None

    def why_none(self) -> str:
        """Return what a folder without images has instead, and what would be read."""
        parts = []
        if self._others:
            shown = self._others.most_common(_OTHERS_SHOWN)
            files = (
                "1 other file"
                if self._others.total() == 1
                else f"{self._others.total()} other files"
            )
            parts.append(f"it has {files} ({extension_counts(Counter(dict(shown)))})")
        if self._all.own:
            parts.append(f"lcam's own images are skipped: {self._all.own_in_words()}")
        if self._all.unread.extensions:
            parts.append(advice(self._all.unread.extensions))
        read = ", ".join(one for one in _USUAL if one in picture_extensions())
        parts.append(
            f"lcam reads {read} and rarer formats; it skips hidden files and links to folders "
            "unless you name them"
        )
        return "; ".join(parts)

    def _is_picture(self, entry: os.DirEntry[str], notes: Sequence[PassedOver]) -> bool:
        """Whether a file is an image, by its extension or without one; note what others are.

        DICOM's files often have no extension, or the end of a number.
        """
        if is_system_file(entry.name):
            return False
        extension = extension_of(entry.name)
        if extension in self._extensions:
            return extension != ".npy" or self._has_picture_shape(entry, notes)
        unread = is_unread_format(extension)
        if not unread and may_be_picture(extension) and self._looked_into < MOST_OPENED:
            head = head_of(entry.path)
            if needs_no_extension(head):
                return True
            self._looked_into += 1
            unread = looks_like_picture(head)
            extension = known_extension(extension, head)
        if entry.is_symlink():
            return False
        self._others[extension] += 1
        if unread:
            for noted in notes:
                noted.unread.extensions[extension] += 1
        return False

    def _has_picture_shape(self, entry: os.DirEntry[str], notes: Sequence[PassedOver]) -> bool:
        if not has_other_shape(head_of(entry.path)):
            return True
        self._others[".npy"] += 1
        for noted in notes:
            noted.arrays.append(entry.path)
        return False


def reason_of(error: OSError | ValueError) -> str:
    """Return what the system says, in a few words."""
    return (getattr(error, "strerror", None) or str(error)).lower()


def is_new(path: str, seen: set[str]) -> bool:
    """Whether a folder or tar is met for the first time; it is noted."""
    absolute = os.path.abspath(path)
    new = absolute not in seen
    seen.add(absolute)
    return new
