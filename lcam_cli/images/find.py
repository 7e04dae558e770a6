"""From files, folders and lists to the paths of the images, in an order no machine changes."""
# Paths stay strings here: they may be 100,000, and pathlib would double the time and memory.
# ruff: noqa: PTH100, PTH116, PTH120

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from lcam_cli.errors import LcamError
from lcam_cli.images.folder import FolderWalk, is_new, reason_of
from lcam_cli.images.formats import plugin_formats
from lcam_cli.images.numbered import split_number
from lcam_cli.images.passed_over import PassedOver
from lcam_cli.images.several import named_in_file, with_numbers
from lcam_cli.images.tars import expand_braces, index_of, is_tar


@dataclass(frozen=True)
class Skipped:
    """An input that could not be read, and why in a few words."""

    path: str
    reason: str


@dataclass
class Found:
    """What the inputs amount to.

    Attributes:
        paths: Of the images, as the inputs spell them, no path twice. A path whose bytes are
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
    """Return the images that the inputs name, in the order of the inputs.

    A folder gives the files below it that have an image's extension, ordered by the bytes of
    their path's components. Hidden files and folders, what operating systems leave behind and what
    lcam itself wrote are passed over; links to files are followed, links to folders are not. A
    file named directly is taken whatever its extension. A path that is named twice counts where it
    is named first; a file that has two names, be it by a link, counts by each. A tar named directly
    gives the images in it, in its own order (``shard.tar/name.jpg``); one that is broken gives
    those before the damage, and is listed in ``skipped``. A file that holds several images gives
    each as ``FILE#N``, in its order; one of them may be named itself.

    Args:
        inputs: Files, folders, and ``"-"`` for the place of ``stdin_paths``.
        stdin_paths: A list of files and folders. What is wrong with one of them goes to
            ``skipped``: nobody wrote the list by hand, and one stale line should not stop a run.

    Raises:
        LcamError: An input does not exist or cannot be listed, a folder has no images, or there
            are no images at all.
    """
    found = Found()
    seen: set[str] = set()
    places: set[str] = set()
    named: set[str] = set()
    try:
        for item in (path for given in inputs for path in expand_braces(given)):
            if item != "-":
                named.add(item)
                places.add(_add(item, found, seen))
                continue
            for listed in stdin_paths:
                named.add(listed)
                try:
                    places.add(_add(listed, found, seen))
                except LcamError as error:
                    found.skipped.append(Skipped(listed, error.what))
    finally:  # a plug-in that does not load may be why there are none
        plugin_formats().warn(found.paths)
    _number(found, named)
    if not found.paths:
        why = "".join(f": {one.path}: {one.reason}" for one in found.skipped[:1])
        raise LcamError(
            f"no images to work on{why}", "pass image files, or folders that contain images"
        )
    found.root = os.path.commonpath(places)
    return found


def check_there(inputs: Iterable[str]) -> None:
    """Look for files and folders, as :func:`find_images` will, before anything that takes long.

    Raises:
        LcamError: One of them does not exist.
    """
    for path in (path for given in inputs for path in expand_braces(given)):
        if path != "-" and split_number(path) is None:
            _is_folder(path)


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
    """Add the images of one file or folder to ``found``; return the absolute folder they are in.

    ``seen`` holds the absolute paths, as they are spelt, of all images, folders and tars so far.
    """
    if in_file := named_in_file(item):
        file, item = in_file
        _take(item, found, seen)
        return os.path.abspath(os.path.dirname(file))
    is_folder = _is_folder(item)
    has_pictures = is_tar(item) and not is_folder  # or its damage is listed
    pictures: Iterable[str] = [item]
    walk = FolderWalk(item, seen, lambda *skipped: found.skipped.append(Skipped(*skipped)))
    if is_folder:
        pictures = walk.pictures()
    elif has_pictures:
        pictures = _members(item, found, seen)
    for path in pictures:
        has_pictures = True
        _take(path, found, seen)
    if not has_pictures:
        raise LcamError(f"no images in {item}", walk.why_none())
    found.passed_over.add(walk.passed_over, item)
    return os.path.abspath(item if is_folder else os.path.dirname(item))


def _is_folder(item: str) -> bool:
    """Whether an input is a folder.

    Raises:
        LcamError: There is nothing of that name.
    """
    try:
        return stat.S_ISDIR(os.stat(item).st_mode)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        raise LcamError(f"cannot open {item}: {reason_of(error)}", "check the path") from error


def _take(path: str, found: Found, seen: set[str]) -> None:
    """Add an image, unless it has been named before."""
    if is_new(path, seen):
        found.paths.append(path)
    else:
        found.passed_over.twice += 1


def _number(found: Found, named: Collection[str]) -> None:
    """Put the names of their images in the place of files that hold several.

    Args:
        found: Has the files.
        named: Those that the inputs name, not a folder of theirs.
    """
    paths, found.paths = found.paths, []
    # Those that may come twice: by themselves, and with their file.
    perhaps_twice = {os.path.abspath(path) for path in paths if split_number(path)}
    taken: set[str] = set()
    for one in with_numbers(paths):
        if one.note:
            found.passed_over.notes[one.path] = one.note
        if one.wrong:
            found.skipped.append(Skipped(one.path, one.wrong))
        elif not one.names and one.path in named:
            found.skipped.append(Skipped(one.path, "a table without images"))
        elif not one.names:
            found.passed_over.tables.append(one.path)
        for name in one.names:
            again = bool(perhaps_twice) and os.path.abspath(name) in perhaps_twice
            if again and not is_new(name, taken):
                found.passed_over.twice += 1
            else:
                found.paths.append(name)


def _members(tar: str, found: Found, seen: set[str]) -> Iterator[str]:
    """Yield the path of each image in a tar, in its order."""
    index = index_of(tar)
    if is_new(tar, seen):
        found.passed_over.unread.add(index.unread, tar)
    if index.broken or not (index.places or index.wrong):
        found.skipped.append(Skipped(tar, index.broken or "no images in the tar"))
    found.skipped += [Skipped(f"{tar}/{name}", why) for name, why in index.wrong.items()]
    for name in index.places:
        yield f"{tar}/{name}"
