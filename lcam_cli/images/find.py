"""From files, folders and lists to the paths of the pictures, in an order no machine changes."""
# Paths stay strings here: they may be 100,000, and pathlib would double the time and memory.
# ruff: noqa: PTH100, PTH112, PTH116, PTH120, PTH123

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from lcam_cli.errors import LcamError
from lcam_cli.images.formats import extension_of, picture_extensions
from lcam_cli.images.own_outputs import Kind, own_in
from lcam_cli.images.picture import HEAD_BYTES
from lcam_cli.images.tars import expand_braces, index_of, is_tar
from lcam_cli.images.unread import (
    MOST_LOOKED_INTO,
    Unread,
    advice,
    counted,
    is_dropping,
    is_unread_format,
    looks_like_picture,
    may_be_picture,
)

# Those that most pictures have, of all that are read.
_USUAL = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".jp2", ".avif")
_OTHERS_SHOWN = 3


@dataclass(frozen=True)
class Skipped:
    """An input that could not be read, and why in a few words."""

    path: str
    reason: str


@dataclass
class PassedOver:
    """What the inputs hold that is not taken, though somebody may miss it.

    Attributes:
        twice: Paths that were named before, by themselves or with their folder.
        linked: Links to folders inside of folders.
        own: Pictures that lcam wrote itself: how many of which kind, and in which folder.
        unread: Pictures and scans that are not read.
    """

    twice: int = 0
    linked: list[str] = field(default_factory=list)
    own: Counter[tuple[str, str]] = field(default_factory=Counter)
    unread: Unread = field(default_factory=Unread)

    def add(self, other: PassedOver, place: str) -> None:
        """Note what a folder, as it was named, holds."""
        self.linked += other.linked
        self.own += other.own
        self.unread.add(other.unread.extensions, place)

    def lines(self) -> list[str]:
        """Return a line for each of the four that there is."""
        lines = []
        if self.twice:
            paths = "1 path was" if self.twice == 1 else f"{self.twice} paths were"
            lines.append(f"{paths} named twice: each picture counts once a path")
        if self.linked:
            count = len(self.linked)
            folders = "1 link to a folder" if count == 1 else f"{count} links to folders"
            shown = f"{min(self.linked)}{' …' if count > 1 else ''}"
            lines.append(f"{folders} passed over: {shown} (named itself, a link is followed)")
        if self.own:
            lines.append(f"lcam's own pictures passed over: {self.own_in_words()}")
        return [*lines, *filter(None, [self.unread.line()])]

    def own_in_words(self) -> str:
        """Return e.g. ``12 overlays in photos/overlays, 1 figure in photos``."""
        return ", ".join(
            f"{count} {kind}{'s' * (count > 1)} in {folder}"
            for (kind, folder), count in self.own.items()
        )


@dataclass
class Found:
    """What the inputs amount to.

    Attributes:
        paths: Of the pictures, as the inputs spell them, no path twice. A path whose bytes are
            not UTF-8 holds surrogates (``os.fsdecode``), which a plain ``print`` refuses.
        skipped: Folders that could not be listed, and entries of a list that lead nowhere.
        root: The deepest folder (absolute) that all named folders and all named files lie in.
        passed_over: What else there is.
    """

    paths: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    root: str = ""
    passed_over: PassedOver = field(default_factory=PassedOver)


def find_images(inputs: Sequence[str], stdin_paths: Iterable[str] = ()) -> Found:
    """Return the pictures that the inputs name, in the order of the inputs.

    A folder gives the files below it that have a picture's extension, ordered by the bytes of
    their path's components. Hidden files and folders, what operating systems leave behind and what
    lcam itself wrote are passed over; links to files are followed, links to folders are not. A
    file named directly is taken whatever its extension. A path that is named twice counts where it
    is named first; a file that has two names, be it by a link, counts by each. A tar named directly
    gives the pictures in it, in its own order (``shard.tar/name.jpg``); one that is broken gives
    those before the damage, and is listed in ``skipped``.

    Args:
        inputs: Files, folders, and ``"-"`` for the place of ``stdin_paths``.
        stdin_paths: A list of files and folders. What is wrong with one of them goes to
            ``skipped``: nobody wrote the list by hand, and one stale line should not stop a run.

    Raises:
        LcamError: An input does not exist or cannot be listed, a folder has no pictures, or there
            are no pictures at all.
    """
    found = Found()
    seen: set[str] = set()
    places: set[str] = set()
    for item in (path for given in inputs for path in expand_braces(given)):
        if item != "-":
            places.add(_add(item, found, seen))
            continue
        for listed in stdin_paths:
            try:
                places.add(_add(listed, found, seen))
            except LcamError as error:
                found.skipped.append(Skipped(listed, error.what))
    if not found.paths:
        why = "".join(f": {one.path}: {one.reason}" for one in found.skipped[:1])
        raise LcamError(
            f"no pictures to work on{why}", "name picture files or folders that hold some"
        )
    found.root = os.path.commonpath(places)
    return found


def read_path_list(stream: BinaryIO, nul: bool) -> Iterator[str]:
    """Yield the paths of a list: one a line (LF or CRLF), or with ``nul`` separated by NUL bytes.

    Blank entries are passed over. The bytes need not be UTF-8 (``os.fsdecode``).
    """
    if nul:
        yield from (os.fsdecode(entry) for entry in _split_at_nul(stream) if entry)
    else:
        yield from (os.fsdecode(line.rstrip(b"\r\n")) for line in stream if line.strip())


def _split_at_nul(stream: BinaryIO) -> Iterator[bytes]:
    rest = b""
    while chunk := stream.read(1 << 16):
        *entries, rest = (rest + chunk).split(b"\0")
        yield from entries
    yield rest


def _add(item: str, found: Found, seen: set[str]) -> str:
    """Add the pictures of one file or folder to ``found``; return the absolute folder they are in.

    ``seen`` holds the absolute paths, as they are spelt, of all pictures, folders and tars so far.
    """
    try:
        is_folder = stat.S_ISDIR(os.stat(item).st_mode)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        raise LcamError(f"cannot open {item}: {_reason(error)}", "check the path") from error
    has_pictures = is_tar(item) and not is_folder  # or its damage is listed
    pictures: Iterable[str] = [item]
    walk = _Walk(item, found, seen)
    if is_folder:
        pictures = walk.pictures()
    elif has_pictures:
        pictures = _members(item, found, seen)
    for path in pictures:
        has_pictures = True
        absolute = os.path.abspath(path)
        if absolute in seen:
            found.passed_over.twice += 1
        else:
            seen.add(absolute)
            found.paths.append(path)
    if not has_pictures:
        raise LcamError(f"no pictures in {item}", walk.why_none())
    found.passed_over.add(walk.passed_over, item)
    return os.path.abspath(item if is_folder else os.path.dirname(item))


def _members(tar: str, found: Found, seen: set[str]) -> Iterator[str]:
    """Yield the path of each picture in a tar, in its order."""
    index = index_of(tar)
    if _is_new(tar, seen):
        found.passed_over.unread.add(index.unread, tar)
    if index.broken or not (index.places or index.wrong):
        found.skipped.append(Skipped(tar, index.broken or "no pictures in the tar"))
    found.skipped += [Skipped(f"{tar}/{name}", why) for name, why in index.wrong.items()]
    for name in index.places:
        yield f"{tar}/{name}"


def _is_new(path: str, seen: set[str]) -> bool:
    """Whether a folder or tar is met for the first time; it is noted."""
    absolute = os.path.abspath(path)
    new = absolute not in seen
    seen.add(absolute)
    return new


# A path, whether it is a folder, and what lcam has written into the one that it lies in.
_Pending = tuple[str, bool, Kind | None]


class _Walk:
    """The way through a folder and those below it.

    Args:
        top: The folder, as it was named.
        found: Where to note what is passed over.
        seen: The absolute paths of the folders met so far, which have been told of.

    Attributes:
        passed_over: What is passed over in folders that are met for the first time.
    """

    def __init__(self, top: str, found: Found, seen: set[str]) -> None:
        self._top = top
        self._seen = seen
        self._skipped = found.skipped
        self._extensions = picture_extensions()
        self._looked_into = 0
        # Of all folders, for whoever finds no picture in any; told are those of new ones.
        self._others: Counter[str] = Counter()
        self._all = PassedOver()
        self.passed_over = PassedOver()

    def pictures(self) -> Iterator[str]:
        """Yield the path of each picture, in order."""
        # A stack: folders may be nested deeper than calls can be.
        pending: list[_Pending] = [(self._top, True, None)]
        while pending:
            path, is_folder, kind = pending.pop()
            if is_folder:
                pending += self._look_into(path, kind)
            else:
                yield path

    def _look_into(self, folder: str, kind: Kind | None) -> Iterator[_Pending]:
        """Yield the pictures and the folders in a folder, the last one first; note the rest."""
        try:
            with os.scandir(folder) as listed:
                entries = list(listed)
        except OSError as error:
            if folder == self._top:
                raise LcamError(f"cannot list {folder}: {_reason(error)}", "") from error
            self._skipped.append(Skipped(folder, f"cannot list the folder: {_reason(error)}"))
            return
        notes = [self._all, *([self.passed_over] if _is_new(folder, self._seen) else [])]
        own = own_in(folder, {entry.name for entry in entries}, kind)
        shown = [entry for entry in entries if not entry.name.startswith(".")]
        shown.sort(key=lambda entry: os.fsencode(entry.name), reverse=True)
        for entry in shown:
            name = entry.name
            if entry.is_dir(follow_symlinks=False):
                if not is_dropping(name, folder=True):
                    yield entry.path, True, own.folders.get(name, own.pictures)
            elif entry.is_symlink() and os.path.isdir(entry.path):
                for noted in notes:
                    noted.linked.append(entry.path)
            elif extension_of(name) not in self._extensions:
                self._note_other(entry, notes)
            elif ours := own.what_is(name):
                for noted in notes:
                    noted.own[ours] += 1
            else:
                yield entry.path, False, None

    def why_none(self) -> str:
        """Return what a folder without pictures has instead, and what would be read."""
        parts = []
        if self._others:
            shown = self._others.most_common(_OTHERS_SHOWN)
            files = (
                "1 other file"
                if self._others.total() == 1
                else f"{self._others.total()} other files"
            )
            parts.append(f"it has {files} ({counted(Counter(dict(shown)))})")
        if self._all.own:
            parts.append(f"lcam's own pictures are passed over: {self._all.own_in_words()}")
        if self._all.unread.extensions:
            parts.append(advice(self._all.unread.extensions))
        read = ", ".join(one for one in _USUAL if one in picture_extensions())
        parts.append(
            f"read are {read} and rarer ones; hidden files and links to folders inside it are "
            "passed over unless they are named themselves"
        )
        return "; ".join(parts)

    def _note_other(self, entry: os.DirEntry[str], notes: Sequence[PassedOver]) -> None:
        if entry.is_symlink() or is_dropping(entry.name):
            return
        extension = extension_of(entry.name)
        self._others[extension] += 1
        unread = is_unread_format(extension)
        if not unread and may_be_picture(extension) and self._looked_into < MOST_LOOKED_INTO:
            self._looked_into += 1
            unread = looks_like_picture(_head(entry))
        if unread:
            for noted in notes:
                noted.unread.extensions[extension] += 1


def _head(entry: os.DirEntry[str]) -> bytes:
    """Return how a file begins; nothing where it cannot be read, or is a pipe or a device."""
    try:
        if not entry.is_file():
            return b""
        with open(entry.path, "rb") as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""


def _reason(error: OSError | ValueError) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()
