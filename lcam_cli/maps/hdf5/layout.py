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
import json
import os
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lcam_cli.errors import LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.maps.record import MapsInfo, Shard

SCHEMA = "lcam-maps"
METHODS_SCHEMA = "lcam-maps-by-method"
"""Of a file that holds a group a method, each of which is laid out as a file of ``SCHEMA``."""
SCHEMA_VERSION = 1

FILE_ID = "file_id"
"""A random name for what was written; a file that is written anew has another one."""
CLASSES = "classes"
"""The dataset of the names of all classes: not of rows, as all other datasets."""
FLAT_ROWS = "flat_rows"
"""How many maps have one value everywhere; -1 until the file is complete."""
JOINED_IDS = "joined_files"
"""In a file that joins others: the ``FILE_ID`` of each, or nothing, by its name (JSON)."""

# Reasons are short phrases of ours; a longer one is cut here.
REASON_BYTES = 240

LONGEST_TEXT = 1 << 16
"""Bytes of a text; no system has longer paths, but a list of them may hold anything."""

_LONGEST_ATTRIBUTE = 1 << 20
_SECTOR = 512
_SMALL_CHUNK = 1024


@dataclass(frozen=True)
class Capacity:
    """How much a file has to hold at most.

    Attributes:
        rows: Maps, that is pictures times classes a picture.
        skipped: Inputs that cannot be read.
        path_bytes: Length of the longest path, at most LONGEST_TEXT: no picture has a longer one.
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
            classes_per_picture: At most so many rows a picture.
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
        return Column(f"skipped/{name}", _text(width), (), capacity.skipped)

    return [
        rows("class_index", "<i4"),
        rows("predicted_index", "<i4"),
        rows("confidence", "<f4"),
        rows("crop_box", "<f4", (4,)),
        Column("class_name", _text(capacity.class_name_bytes), (), capacity.rows),
        Column("path", _text(capacity.path_bytes), (), capacity.rows),
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
        attributes = {
            "schema": SCHEMA,
            "lcam_version": info.lcam_version,
            "method": info.method,
            "method_params": json.dumps(info.method_params, sort_keys=True),
            "backbone": info.backbone,
            "weights": info.weights,
            "weights_file": info.weights_file,
            "layer": info.layer,
            "grid": info.grid,
            "activation": info.activation,
            "output": info.output,
            "probabilities": info.probabilities,
            "preprocess": json.dumps(info.preprocess, sort_keys=True),
            "root": info.root,
            "created": info.created,
            FILE_ID: new_id(),
            **_classes(info),
            **({"shard": json.dumps(dataclasses.asdict(info.shard))} if info.shard else {}),
        }
        for name, text in attributes.items():
            file.attrs.create(name, utf8(text), dtype=h5py.string_dtype("utf-8"))
        file.attrs["schema_version"] = SCHEMA_VERSION
        file.attrs["complete"] = False
        # Numbers that are set in place: a header that grew could not be trusted after a kill.
        file.attrs[FLAT_ROWS] = np.int64(-1)
        write_classes(file, info.classes)
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


def write_classes(group: h5py.Group, names: Sequence[str]) -> None:
    """Write the names of all classes, unless they are not known."""
    if names:
        texts = [utf8(name) for name in names]
        kind = _text(max(map(len, texts)))
        # A thousand names, mostly blanks behind short ones, take some 10 kB so.
        group.create_dataset(
            CLASSES, data=np.array(texts, kind), compression="gzip", track_times=False
        )


def new_id() -> str:
    """Return a name for a file about to be written."""
    return uuid.uuid4().hex


def read_id(attributes: h5py.AttributeManager) -> str:
    """Return the name of what was written; empty for files of older versions and other programs.

    Raises:
        LcamError: It is no text; the message lacks the file's name.
    """
    return attribute(attributes, FILE_ID, str) if FILE_ID in attributes else ""


def read_joined_ids(attributes: h5py.AttributeManager) -> dict[str, Any]:
    """Return what the joined files were when they were joined; empty where nothing says so.

    Raises:
        LcamError: It is not as the format says; the message lacks the file's name.
    """
    return _json_object(attributes, JOINED_IDS) if JOINED_IDS in attributes else {}


def _classes(info: MapsInfo) -> dict[str, str]:
    if not info.classes_explained:  # not known, as of a file that said nothing
        return {}
    return {"classes_explained": json.dumps(info.classes_explained, sort_keys=True)}


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
                    f"{path} cannot be continued: {column.name} is not laid out for it",
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


def read_info(attributes: h5py.AttributeManager) -> MapsInfo:
    """Return what the file attributes say.

    Those that nothing hangs on may be missing: files come from other programs too.

    Raises:
        LcamError: if one is missing or not of its type; the message lacks the file's name.
    """
    if attribute(attributes, "schema", str) != SCHEMA:
        raise LcamError("it is no maps file: attribute schema differs")
    version = attribute(attributes, "schema_version", int)
    if version != SCHEMA_VERSION:
        raise LcamError(f"it has schema version {version}, and this lcam reads {SCHEMA_VERSION}")
    needed = ("method", "backbone", "weights", "layer", "root")
    may_be_missing = (
        *("weights_file", "grid", "activation", "output", "probabilities"),
        *("lcam_version", "created"),
    )
    optional = [n for n in may_be_missing if n in attributes]
    return MapsInfo(
        **{
            "lcam_version": "",
            **{name: attribute(attributes, name, str) for name in (*needed, *optional)},
        },
        method_params=_json_object(attributes, "method_params")
        if "method_params" in attributes
        else {},
        preprocess=_json_object(attributes, "preprocess"),
        classes_explained=_json_object(attributes, "classes_explained")
        if "classes_explained" in attributes
        else {},
        shard=_shard(attributes) if "shard" in attributes else None,
    )


def _shard(attributes: h5py.AttributeManager) -> Shard:
    value = _json_object(attributes, "shard")
    kinds = {name: type(part) for name, part in value.items()}
    if kinds != {"first": int, "stop": int, "pictures": int, "inputs": str}:
        raise LcamError("attribute shard does not say which pictures it means")
    return Shard(**value)


def read_flat_rows(attributes: h5py.AttributeManager) -> int | None:
    """Return how many maps are said to be flat; None where that is not said.

    Raises:
        LcamError: It is no number; the message lacks the file's name.
    """
    if FLAT_ROWS not in attributes:
        return None
    count: int = attribute(attributes, FLAT_ROWS, int)
    return count if count >= 0 else None


def is_complete(attributes: h5py.AttributeManager) -> bool:
    """Return whether the run that wrote the file came to its end; other programs may not say."""
    # MATLAB has no booleans to write.
    return "complete" not in attributes or bool(attribute(attributes, "complete", int))


def attribute(attributes: h5py.AttributeManager, name: str, kind: type) -> Any:
    """Return an attribute as a plain Python value.

    Raises:
        LcamError: if it is missing or not of that kind; the message lacks the file's name.
    """
    value = None
    if name in attributes:
        # Looked at before it is read: what it declares is what would be allocated.
        declared = attributes.get_id(name)
        if declared.shape != () or declared.dtype.itemsize > _LONGEST_ATTRIBUTE:
            raise LcamError(f"attribute {name} is not one {kind.__name__}, or too long")
        value = attributes[name]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if not isinstance(value, kind) or (isinstance(value, str) and "\0" in value):
        raise LcamError(f"attribute {name} is missing or no {kind.__name__}")
    return value


def _json_object(attributes: h5py.AttributeManager, name: str) -> dict[str, Any]:
    try:
        value = json.loads(attribute(attributes, name, str))
    except (ValueError, RecursionError) as error:
        raise LcamError(f"attribute {name} is not JSON") from error
    if not isinstance(value, dict):
        raise LcamError(f"attribute {name} is no JSON object")
    return value


def utf8(text: str) -> bytes:
    """Return the bytes of a text, those of a file name as they are on disk."""
    return text.encode("utf-8", "surrogateescape")


def clip_text(text: str, width: int) -> bytes:
    """Return the bytes of a text cut to ``width`` bytes, between two characters."""
    return utf8(text)[:width].decode("utf-8", "ignore").encode("utf-8")


def _text(width: int) -> np.dtype[Any]:
    kind: np.dtype[Any] = h5py.string_dtype("utf-8", max(width, 1))
    return kind


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
