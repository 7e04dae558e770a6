"""From files, folders and lists to the paths of the pictures, in an order no machine changes."""
# Paths stay strings here: they may be 100,000, and pathlib would double the time and memory.
# ruff: noqa: PTH100, PTH112, PTH116, PTH118, PTH120, PTH122

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from lcam_cli.errors import LcamError
from lcam_cli.images.formats import picture_extensions
from lcam_cli.images.tars import expand_braces, index_of, is_tar

# Those that most pictures have, of all that are read.
_USUAL = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".jp2", ".avif")
_OTHERS_SHOWN = 3


@dataclass(frozen=True)
class Skipped:
    """An input that could not be read, and why in a few words."""

    path: str
    reason: str


@dataclass
class Found:
    """What the inputs amount to.

    Attributes:
        paths: Of the pictures, as the inputs spell them, no file twice. A path whose bytes are
            not UTF-8 holds surrogates (``os.fsdecode``), which a plain ``print`` refuses.
        skipped: Folders that could not be listed, and entries of a list that lead nowhere.
        root: The deepest folder (absolute) that all named folders and all named files lie in.
    """

    paths: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    root: str = ""


def find_images(inputs: Sequence[str], stdin_paths: Iterable[str] = ()) -> Found:
    """Return the pictures that the inputs name, in the order of the inputs.

    A folder gives the files below it that have a picture's extension, ordered by the bytes of
    their path's components. Hidden files and folders are passed over; links to files are followed,
    links to folders are not. A file named directly is taken whatever its extension. A file reached
    twice, be it through a link, counts where it is reached first. A tar named directly gives the
    pictures in it, in its own order (``shard.tar/name.jpg``); one that is broken gives those before
    the damage, and is listed in ``skipped``.

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

    ``seen`` holds the real path of each picture found so far.
    """
    try:
        is_folder = stat.S_ISDIR(os.stat(item).st_mode)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        raise LcamError(f"cannot open {item}: {_reason(error)}", "check the path") from error
    real_item = os.path.realpath(item)
    has_pictures = is_tar(item) and not is_folder  # or its damage is listed
    pictures: Iterable[tuple[str, str]] = [(item, real_item)]
    others: Counter[str] = Counter()
    if is_folder:
        pictures = _walk(item, real_item, found.skipped, others)
    elif has_pictures:
        pictures = _members(item, real_item, found.skipped)
    for path, real in pictures:
        has_pictures = True
        if real not in seen:
            seen.add(real)
            found.paths.append(path)
    if not has_pictures:
        raise LcamError(f"no pictures in {item}", _why_none(others))
    return os.path.abspath(item if is_folder else os.path.dirname(item))


def _why_none(others: Counter[str]) -> str:
    """Return what a folder without pictures has instead, by extensions, and what would be read."""
    shown = [f"{count} {extension}" for extension, count in others.most_common(_OTHERS_SHOWN)]
    has = f"it has {others.total()} other files ({', '.join(shown)}); " if shown else ""
    read = ", ".join(one for one in _USUAL if one in picture_extensions())
    return (
        f"{has}read are {read} and rarer ones; hidden files and links to folders inside it are "
        "passed over; name those directly"
    )


def _members(tar: str, real_tar: str, skipped: list[Skipped]) -> Iterator[tuple[str, str]]:
    """Yield the path and the real path of each picture in a tar, in its order."""
    index = index_of(tar)
    if index.broken or not (index.places or index.wrong):
        skipped.append(Skipped(tar, index.broken or "no pictures in the tar"))
    skipped += [Skipped(f"{tar}/{name}", why) for name, why in index.wrong.items()]
    for name in index.places:
        yield f"{tar}/{name}", f"{real_tar}/{name}"


def _walk(
    top: str, real_top: str, skipped: list[Skipped], others: Counter[str]
) -> Iterator[tuple[str, str]]:
    """Yield the path and the real path of each picture below the folder ``top``, in order.

    Other files are counted in ``others``, by their extension.
    """
    extensions = picture_extensions()
    pending = [(top, real_top, True)]  # a stack: folders may be nested deeper than calls can be
    while pending:
        path, real, is_folder = pending.pop()
        if not is_folder:
            yield path, real
            continue
        try:
            with os.scandir(path) as entries:
                shown = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            if path == top:
                raise LcamError(f"cannot list {top}: {_reason(error)}", "") from error
            skipped.append(Skipped(path, f"cannot list the folder: {_reason(error)}"))
            continue
        shown.sort(key=lambda entry: os.fsencode(entry.name), reverse=True)
        for entry in shown:
            below = os.path.join(real, entry.name)
            extension = os.path.splitext(entry.name)[1].lower()
            if entry.is_dir(follow_symlinks=False):
                pending.append((entry.path, below, True))
            elif extension in extensions:
                if not entry.is_symlink():
                    pending.append((entry.path, below, False))
                elif not os.path.isdir(entry.path):
                    pending.append((entry.path, os.path.realpath(entry.path), False))
            elif not entry.is_symlink():
                others[extension or "without an extension"] += 1


def _reason(error: OSError | ValueError) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()
