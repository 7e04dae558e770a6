"""Where everything lies in a maps file, and why a killed run cannot break it.

HDF5 has no transactions: as a file grows, the library rewrites its indexes and heaps in place, and
a process killed between two of those writes leaves a file that does not open. So a maps file
never grows. The number of rows a run can make is known before it starts; all of them are reserved
when the file is made (nothing is written there, so the file is sparse and takes no disk), in
chunks that lie one after the other and need no index ("implicit" chunk index, HDF5 1.10). Then

* a row is written with ``pwrite`` to the place that was reserved for it, past the end of the
  datasets as readers see them;
* a flush syncs the rows and then sets the length of each dataset: one number in one object header,
  written by one call, inside one 512-byte sector. Before that call the file has the old length,
  after it the new one; there is no in between;
* the datasets' lengths change one after the other, so the rows of an unfinished file are as many
  as its shortest dataset has.

Two details matter. The file is begun with the oldest superblock, because the new one marks a file
as "open for writing" and a reader refuses it after a kill. And names have a fixed width, the
longest of the run, because HDF5 keeps strings of variable length in a heap that grows.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lcam_cli.errors import LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.maps.hdf5.attributes import FLAT_ROWS, write_info
from lcam_cli.maps.hdf5.class_names import write_class_names
from lcam_cli.maps.hdf5.texts import LONGEST_TEXT, clip_text, text_type, utf8
from lcam_cli.maps.record import MapsInfo

# Reasons are short phrases of ours; a longer one is cut here.
REASON_BYTES = 240

_SECTOR = 512
_SMALL_CHUNK = 1024


@dataclass(frozen=True)
class Capacity:
    """How much a file has to hold at most.

    Attributes:
        rows: Maps, that is images times classes an image.
        skipped: Inputs that cannot be read.
        path_bytes: Length of the longest path, at most LONGEST_TEXT: no image has a longer one.
        class_name_bytes: Length of the longest class name.
    """

    rows: int
    skipped: int
    path_bytes: int
    class_name_bytes: int

    @classmethod
    def of(
        cls, paths: Sequence[str], class_names: Iterable[str], *, classes_per_picture: int = 1
    ) -> Capacity:
        """Return the capacity for explaining ``paths``, each for so many of the named classes.

        Args:
            paths: As rows will store them, with the inputs known to be unreadable.
            class_names: Every name a row may carry.
            classes_per_picture: At most so many rows an image.
        """
        return cls(
            rows=len(paths) * classes_per_picture,
            skipped=len(paths),
            path_bytes=min(max((len(utf8(path)) for path in paths), default=1), LONGEST_TEXT),
            class_name_bytes=max((len(utf8(name)) for name in class_names), default=1),
        )

    def joined(self, other: Capacity) -> Capacity:
        """Return a capacity that is enough for either."""
        mine, theirs = dataclasses.astuple(self), dataclasses.astuple(other)
        return Capacity(*map(max, mine, theirs))

    def holds(self, other: Capacity) -> bool:
        """Return whether all that ``other`` asks for fits in here."""
        mine, theirs = dataclasses.astuple(self), dataclasses.astuple(other)
        return all(have >= need for have, need in zip(mine, theirs, strict=True))


@dataclass(frozen=True)
class Column:
    """One dataset: its name, what a row of it is, and how many rows are reserved."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    capacity: int

    @property
    def row_bytes(self) -> int:
        """Bytes a row takes in the file."""
        return int(self.dtype.itemsize * np.prod(self.shape, dtype=np.int64))


def columns(
    capacity: Capacity, map_dtype: str, size: tuple[int, int], cam_size: tuple[int, int] | None
) -> list[Column]:
    """Return the datasets of a file, small ones first.

    Args:
        capacity: How much they have to hold.
        map_dtype: Name of the type that saliency is stored as.
        size: (H, W) of a saliency map.
        cam_size: (P, Q) of a raw map, None for methods without one.
    """

    def rows(name: str, dtype: str, shape: tuple[int, ...] = ()) -> Column:
        return Column(name, np.dtype(dtype), shape, capacity.rows)

    def skipped(name: str, width: int) -> Column:
        return Column(f"skipped/{name}", text_type(width), (), capacity.skipped)

    return [
        rows("class_index", "<i4"),
        rows("predicted_index", "<i4"),
        rows("confidence", "<f4"),
        rows("crop_box", "<f4", (4,)),
        Column("class_name", text_type(capacity.class_name_bytes), (), capacity.rows),
        Column("path", text_type(capacity.path_bytes), (), capacity.rows),
        skipped("path", capacity.path_bytes),
        skipped("reason", REASON_BYTES),
        *([rows("cam", "<f4", cam_size)] if cam_size else []),
        Column("saliency", np.dtype(map_dtype).newbyteorder("<"), size, capacity.rows),
    ]


def create(path: Path, info: MapsInfo, layout: Sequence[Column]) -> None:
    """Write a file with every row reserved and none in it, replacing what is at ``path``.

    Raises:
        OSError: if it cannot be written.
    """
    with h5py.File(path, "w", libver="earliest", locking=False) as file:
        write_info(file.attrs, info)
        write_class_names(file, info.classes)
    # Only an object's own format follows `libver` here; the superblock stays the old one.
    with h5py.File(
        path,
        "r+",
        libver=("v110", "v110"),
        locking=False,
        alignment_threshold=1,
        alignment_interval=_SECTOR,
        meta_block_size=0,
    ) as file:
        file.create_group("skipped")
        for column in layout:
            _reserve(file, column)


def _reserve(file: h5py.File, column: Column) -> None:
    """Make an empty dataset whose chunks already have their place in the file."""
    # A dataset of a single chunk would get another index, which is given back when it empties.
    capacity = max(column.capacity, 2)
    chunk = 1 if len(column.shape) == 2 else min(_SMALL_CHUNK, capacity - 1)
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk((chunk, *column.shape))
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    creation.set_obj_track_times(False)
    space = h5py.h5s.create_simple((0, *column.shape), (capacity, *column.shape))
    kind = h5py.h5t.py_create(column.dtype, logical=True)
    made = h5py.h5d.create(file.id, column.name.encode(), kind, space, dcpl=creation)
    # The place is taken when the first row is asked for.
    made.set_extent((1, *column.shape))
    made.set_extent((0, *column.shape))


def offsets(path: Path, layout: Sequence[Column]) -> dict[str, int]:
    """Return the byte at which the rows of each dataset begin.

    Raises:
        LcamError: if the file is laid out in another way (joined from shards, or rewritten by
            another program), so that rows cannot be added in place.
    """
    found = {}
    with h5py.File(path, "r+", locking=False) as file:
        for column in layout:
            dataset = file[column.name]
            begin = _begin(dataset, column)
            if begin is None:
                raise LcamError(
                    f"{path} cannot be continued: the layout of {column.name} does not allow it",
                    "use --overwrite or another --out",
                )
            found[column.name] = begin
    return found


def _begin(dataset: h5py.Dataset, column: Column) -> int | None:
    """Where row 0 lies, or None unless all reserved rows follow it without a gap."""
    length, capacity = dataset.shape[0], dataset.maxshape[0]
    if (
        capacity is None
        or capacity < column.capacity
        or dataset.chunks is None
        or dataset.dtype != column.dtype
    ):
        return None
    last = (capacity - 1) // dataset.chunks[0] * dataset.chunks[0]
    try:
        dataset.resize(capacity, axis=0)
        corner = (0,) * len(column.shape)
        begin = dataset.id.get_chunk_info_by_coord((0, *corner)).byte_offset
        end = dataset.id.get_chunk_info_by_coord((last, *corner)).byte_offset
    finally:
        # Never flushed at that length, so the file has not changed.
        dataset.resize(length, axis=0)
    return int(begin) if begin and end == begin + last * column.row_bytes else None


def set_lengths(path: Path, lengths: dict[str, int]) -> None:
    """Make the first so many rows of each dataset part of the file: the commit.

    Args:
        path: The file.
        lengths: Rows of each dataset, by its name.
    """
    with h5py.File(path, "r+", locking=False) as file:
        for name, rows in lengths.items():
            if file[name].shape[0] != rows:
                file[name].resize(rows, axis=0)


def set_complete(path: Path, flat_rows: int) -> None:
    """Mark a file, all of whose rows are on disk, as finished.

    Args:
        path: The file.
        flat_rows: How many of them are flat.
    """
    with h5py.File(path, "r+", locking=False) as file:
        if FLAT_ROWS in file.attrs:  # files that older versions began have no room for it
            file.attrs.modify(FLAT_ROWS, np.int64(flat_rows))
        file.attrs.modify("complete", np.bool_(True))


def read_capacity(path: Path) -> Capacity:
    """Return what was reserved when the file was made."""
    with h5py.File(path, "r", locking=False) as file:
        return Capacity(
            rows=file["path"].maxshape[0] or 0,
            skipped=file["skipped/path"].maxshape[0] or 0,
            path_bytes=file["path"].dtype.itemsize,
            class_name_bytes=file["class_name"].dtype.itemsize,
        )


def skipped_rows(skipped: Sequence[Skipped]) -> dict[str, list[bytes]]:
    """Return the rows of the two ``skipped`` datasets."""
    return {
        "skipped/path": [clip_text(one.path, LONGEST_TEXT) for one in skipped],
        "skipped/reason": [clip_text(one.reason, REASON_BYTES) for one in skipped],
    }


def write_at(descriptor: int, rows: NDArray[Any], offset: int) -> None:
    """Write all of ``rows`` at the byte ``offset``; the system may take them in several parts."""
    left = memoryview(rows.reshape(-1).view(np.uint8).data)
    while left:
        written = os.pwrite(descriptor, left, offset)
        left, offset = left[written:], offset + written
