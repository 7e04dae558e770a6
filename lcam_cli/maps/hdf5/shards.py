"""The shards of a run, checked: all of one run, none missing, none twice."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from lcam_cli.errors import LcamError
from lcam_cli.maps.hdf5.reader import MapsFile
from lcam_cli.maps.record import MapsInfo, Shard

_NAME = re.compile(r"(.*\.)(\d+)-of-(\d+)(\.[^.]*)", re.DOTALL)


def in_order(files: Sequence[MapsFile]) -> list[MapsFile]:
    """Return the finished shards of one run in the order of its images.

    A single file of a whole run is taken as it is.

    Raises:
        LcamError: One is not finished, no shard, one of another run, or not there.
    """
    for file in files:
        if not file.complete:
            raise LcamError(
                f"{file.path} is incomplete", "finish it: run its command with --resume"
            )
    if len(files) == 1 and files[0].info.shard is None:
        return list(files)
    for file in files:
        if file.info.shard is None:
            raise LcamError(
                f"{file.path} is not a shard: it holds the maps of a whole run", "remove it"
            )
    shards = sorted(files, key=lambda file: (_shard(file).first, _shard(file).stop))
    first = shards[0]
    for file in shards[1:]:
        if differs := difference(file, first):
            raise LcamError(
                f"{file.path} is from another run than {first.path}: {differs}",
                "merge only shards of one run",
            )
    at = 0
    for before, file in zip([first, *shards], shards, strict=False):
        if _shard(file).first < at:
            raise LcamError(
                f"{file.path} has images that are also in {before.path}", "pass each shard once"
            )
        if _shard(file).first > at:
            raise _missing(files, at, _shard(file).first)
        at = _shard(file).stop
    if at < _shard(first).pictures:
        raise _missing(files, at, _shard(first).pictures)
    return shards


def difference(file: MapsFile, first: MapsFile) -> str:
    """Name what makes a shard none of the run that another is of; empty where nothing does."""
    mine, theirs = without_shard(file.info), without_shard(first.info)
    if differs := mine.difference(theirs):
        return differs
    here, there = _shard(file), _shard(first)
    if (here.pictures, here.inputs) != (there.pictures, there.inputs):
        return "it explains other images or classes"
    if (file.size, file.map_dtype) != (first.size, first.map_dtype):
        return f"its maps are {file.size} {file.map_dtype}, not {first.size} {first.map_dtype}"
    return ""


def without_shard(info: MapsInfo) -> MapsInfo:
    """What a file says, but for which images it is of."""
    return dataclasses.replace(info, shard=None)


def _shard(file: MapsFile) -> Shard:
    assert file.info.shard is not None
    return file.info.shard


def _missing(files: Sequence[MapsFile], first: int, stop: int) -> LcamError:
    """Tell what is missing, by name where the others' names say what it is called."""
    what = f"images {first} to {stop} are not in any shard"
    named = [match for file in files if (match := _NAME.fullmatch(file.path.name))]
    if named:
        stem, _, count, suffix = named[0].groups()
        there = {int(match[2]) for match in named}
        # A name can say any number; one of the first so many is not there.
        absent = min(set(range(len(there) + 1)) - there)
        if absent < int(count):
            what = f"{stem}{absent}-of-{count}{suffix} is missing: {what}"
    return LcamError(what, "pass every shard of the run")
