"""The shards behind a file that joins them: whether they are still the ones that it joined."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import h5py

from lcam_cli.errors import LcamError
from lcam_cli.maps.hdf5.attributes import read_id
from lcam_cli.maps.hdf5.checks import Kind, check_held, check_stored, declared


@dataclass(frozen=True)
class JoinedFile:
    """A file that may join others beside it.

    Attributes:
        path: The file.
        ids: What the others were when it joined them, by their names; empty where it is not known.
    """

    path: Path
    ids: dict[str, Any]

    def check(self, group: h5py.Group, name: str, kind: Kind) -> None:
        """Check that a dataset is what it should be, and its values are there.

        Args:
            group: Where it is.
            name: Its name from there.
            kind: What it should be.

        Raises:
            LcamError: It is not, or they are neither in the file nor in whole files beside it,
                which are those that it joined.
        """
        dataset = declared(group, name, kind)
        if not dataset.is_virtual:
            check_held(dataset, name)
            return
        joined = 0
        for source in dataset.virtual_sources():
            if "%" in source.file_name.replace("%%", ""):
                raise LcamError(f"{name} refers to its files by a pattern, {source.file_name}")
            joined += source.vspace.get_select_npoints()
            shard = _shard_name(source.file_name)
            here = self.path.parent.resolve()
            found = (here / shard).resolve()
            if shard.is_absolute() or not found.is_relative_to(here):
                raise LcamError(f"{name} is outside the file's folder, in {source.file_name}")
            # HDF5 would read a missing shard as zeros; and "." would be this file again.
            if not found.is_file() or found == self.path.resolve():
                raise LcamError(f"{name} is in {source.file_name}, which is missing")
            with h5py.File(found, "r", locking=False) as file:
                self._check_unchanged(file, shard.name)
                check_stored(file, source.dset_name.strip("/"), kind)
        # What no shard holds would be read as zeros.
        if joined < math.prod(dataset.shape):
            raise LcamError(f"{name} says it has {dataset.shape[0]} rows but does not join them")

    def _check_unchanged(self, shard: h5py.File, name: str) -> None:
        """Check that a shard is the file that was joined, and not that of a later run."""
        if name in self.ids and read_id(shard.attrs) != self.ids[name]:
            raise LcamError(
                f"{self.path} joins {name}, which has been rewritten since",
                "join again with --overwrite, or restore the original file",
            )


def shards_of(dataset: h5py.Dataset, folder: Path) -> list[tuple[Path, int, int]]:
    """Return the files behind a dataset, each with the first and the last row that it gives.

    Args:
        dataset: One that :meth:`JoinedFile.check` has found in order.
        folder: That of its file.

    Returns:
        Nothing where the file holds the rows itself.
    """
    found = []
    for source in dataset.virtual_sources() if dataset.is_virtual else ():
        first, last = source.vspace.get_select_bounds()
        found.append((folder / _shard_name(source.file_name), int(first[0]), int(last[0])))
    return found


def _shard_name(stored: str) -> PurePosixPath:
    return PurePosixPath(stored.replace("%%", "%"))
