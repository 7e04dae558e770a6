"""Pictures in tar files, as WebDataset keeps them: each at its place in the file, never unpacked.

An image in a tar is called ``shard.tar/name.jpg``, as if the tar were a folder. Where it lies is
looked up once a tar, from the headers alone; a reading process then takes its bytes from there, so
that images of tars are read in any order, like files.
"""
# Paths stay strings, as in find.py.
# ruff: noqa: PTH123, PTH113, PTH202

from __future__ import annotations

import os
import re
import tarfile
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple

from lcam_cli.images.formats import extension_of, is_table, picture_extensions
from lcam_cli.images.numbered import file_and_number, split_number
from lcam_cli.images.picture import HEAD_BYTES
from lcam_cli.images.unread import is_system_file, is_unread_format, looks_like_picture

_BRACES = re.compile(r"\{([0-9]{1,9})\.\.([0-9]{1,9})\}")
_MOST_EXPANDED = 1_000_000
_BLOCK = 512


@dataclass(frozen=True)
class TarIndex:
    """What a tar holds.

    Attributes:
        places: Where each image begins, and how long it is, in bytes, by its name; in the order
            of the tar.
        wrong: Members that are left out, by name, and why.
        broken: Why the tar could not be read to its end; empty where it could.
        unread: How many images and scans it has that are not read, by extension.
    """

    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    broken: str = ""
    unread: Counter[str] = field(default_factory=Counter)


_indexes: dict[str, TarIndex] = {}
_lock = threading.Lock()


def is_tar(path: str) -> bool:
    """Whether a path is named as a tar is."""
    return path.lower().endswith(".tar")


def index_of(tar: str) -> TarIndex:
    """Return what a tar holds; each is looked through once."""
    key = os.path.abspath(tar)  # noqa: PTH100
    with _lock:
        if key not in _indexes:
            _indexes[key] = read_index(key)
        return _indexes[key]


class Location(NamedTuple):
    """Where an image lies.

    Attributes:
        file: Its path: of a tar, for an image in one.
        place: Where in the tar what holds the image begins, and how long that is, in bytes.
        number: Of the image, where what holds it holds several.
        name: What that which holds it is called; in a tar too.
    """

    file: str
    place: tuple[int, int] | None
    number: int | None
    name: str


def locate(path: str) -> Location:
    """Return where an image lies.

    Args:
        path: A file, or ``…/shard.tar/name.jpg``; ``FILE#N`` for an image of several.
    """
    for match in re.finditer(r"\.tar(?=/)", path, re.IGNORECASE):
        tar, name = path[: match.end()], path[match.end() + 1 :]
        if os.path.isfile(tar):
            places, number = index_of(tar).places, None
            if name not in places and (split := split_number(name)):
                name, number = split
            return Location(tar, places.get(name, (0, 0)), number, f"{tar}/{name}")
    file, number = file_and_number(path)
    return Location(file, None, number, file)


def expand_braces(path: str) -> list[str]:
    """Return the paths that ``shard-{000..003}.tar`` means; the path itself without braces.

    Shells do this as well; a settings file has none.
    """
    match = _BRACES.search(path)
    if match is None or os.path.exists(path):  # noqa: PTH110
        return [path]
    first, last, width = int(match[1]), int(match[2]), len(match[1])
    if not 0 <= last - first < _MOST_EXPANDED:
        return [path]
    begin, end = path[: match.start()], path[match.end() :]
    return [f"{begin}{number:0{width}}{end}" for number in range(first, last + 1)]


def read_index(path: str) -> TarIndex:
    """Look through a tar; see :func:`index_of`."""
    places: dict[str, tuple[int, int]] = {}
    wrong: dict[str, str] = {}
    broken = ""
    unread: Counter[str] = Counter()
    extensions = picture_extensions()
    try:
        size = os.path.getsize(path)
        with tarfile.open(path, "r:") as tar:  # not compressed: its members have a place
            at = -1
            while (member := tar.next()) is not None:
                if member.offset <= at or member.offset_data + member.size > size:
                    raise tarfile.ReadError("it ends within a member")
                at = member.offset
                tar.members = []  # type: ignore[attr-defined]  # it would remember them all
                name = PurePosixPath(member.name)
                if name.name.startswith(".") or _is_left_behind(name):
                    continue
                extension = extension_of(name.name)
                if extension not in extensions:
                    if is_unread_format(extension) or (
                        not extension and looks_like_picture(_head(tar, member))
                    ):
                        unread[extension] += 1
                    continue  # labels and the like
                if not member.isreg() or member.issparse():
                    wrong[member.name] = "not a plain file in its tar"
                elif is_table(extension):
                    wrong[member.name] = "a table in a tar: extract it and pass it directly"
                elif name.is_absolute() or ".." in name.parts:
                    wrong[member.name] = "its name points outside its tar"
                elif str(name) in places:
                    wrong[member.name] = "its tar has another file with that name"
                else:
                    places[str(name)] = member.offset_data, member.size
            # A header that is damaged or cut looks like the end, which is zeros.
            with open(path, "rb") as file:
                file.seek(tar.offset)
                if file.read(_BLOCK) != bytes(_BLOCK):
                    raise tarfile.ReadError("the tar has no end")
    except (OSError, tarfile.TarError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        broken = f"cannot be read as a tar after {len(places)} images: {reason}"
    return TarIndex(places, wrong, broken, unread)


def _is_left_behind(name: PurePosixPath) -> bool:
    return is_system_file(name.name) or any(
        is_system_file(part, folder=True) for part in name.parts[:-1]
    )


def _head(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member) if member.isreg() else None
    return file.read(HEAD_BYTES) if file is not None else b""
