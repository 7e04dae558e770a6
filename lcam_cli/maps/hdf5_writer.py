"""Writing a maps file: batches in, rows on disk, resumable after any death.

The layout, and why it survives a kill, is told in :mod:`lcam_cli.maps.hdf5_layout`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import shutil
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lcam_cli.errors import LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.maps import hdf5_layout as layout
from lcam_cli.maps.hdf5_layout import Room
from lcam_cli.maps.hdf5_reader import MapsFile
from lcam_cli.maps.names import whole_file
from lcam_cli.maps.record import Floats, MapBatch, MapDtype, MapsInfo

FLUSH_ROWS = 1000
FLUSH_SECONDS = 10.0


class Hdf5Writer:
    """Appends batches to a maps file; a context manager, which flushes on the way out.

    The file appears with the first batch. With ``overwrite`` the old file is replaced at that
    moment, so it outlives mistakes found before it. Leaving the block without :meth:`finish`
    leaves an incomplete file that ``resume`` goes on with.

    Args:
        path: The file to write; its folder is made.
        info: What all maps have in common.
        size: (H, W) of a map.
        room: How much the file must hold at most.
        map_dtype: How saliency is stored.
        resume: Go on with the file if there is one.
        overwrite: Replace the file if there is one.

    Attributes:
        paths: The path of each row, in order, those not yet flushed included.
        skipped: Inputs that could not be read, in order.
        complete: Whether the file is finished; then nothing can be appended.

    Raises:
        LcamError: if the file exists (and neither flag is set), cannot be written, or was made
            with other settings than those it should be resumed with.
    """

    def __init__(
        self,
        path: Path,
        info: MapsInfo,
        *,
        size: tuple[int, int],
        room: Room,
        map_dtype: MapDtype = "float16",
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        created = info.created or datetime.now(UTC).isoformat(timespec="seconds")
        self.path = path
        self.paths: list[str] = []
        self.skipped: list[Skipped] = []
        self.complete = False
        self._info = dataclasses.replace(info, created=created)
        self._size = size
        self._room = room
        self._dtype = map_dtype
        self._offsets: dict[str, int] = {}
        self._columns: list[layout.Column] = []
        self._descriptor: int | None = None
        self._flushed_rows = self._flushed_skipped = 0
        self._flushed_at = time.monotonic()
        self._sync_failed = False
        self._claim(resume=resume, overwrite=overwrite)

    @property
    def rows(self) -> int:
        """Maps in the file, those not yet flushed included."""
        return len(self.paths)

    def append(self, batch: MapBatch) -> None:
        """Add rows in order; they are sure to be kept from the next flush on.

        Raises:
            LcamError: if the disk is full or fails.
            ValueError: if V leaves [0, 1], or the batch does not fit the size or the room.
        """
        batch.check()
        if self.complete:
            raise ValueError(f"{self.path} is finished")
        if len(batch) and batch.saliency.shape[1:] != self._size:
            raise ValueError(f"maps of {batch.saliency.shape[1:]} in a file of {self._size}")
        if len(batch):
            self._open(None if batch.cam is None else batch.cam.shape[1:])
            self._write_rows(_stored(batch, self._dtype))
        self.paths += batch.paths
        self.skipped += batch.skipped
        if (
            self.rows - self._flushed_rows >= FLUSH_ROWS
            or time.monotonic() - self._flushed_at >= FLUSH_SECONDS
        ):
            self.flush()

    def flush(self) -> None:
        """Make everything appended so far part of the file, whatever happens afterwards."""
        if self._descriptor is None:
            return
        fresh = self.skipped[self._flushed_skipped :]
        if fresh:
            self._write(layout.skipped_rows(fresh), self._flushed_skipped, self._room.skipped)
        lengths = {
            column.name: len(self.skipped) if column.name.startswith("skipped/") else self.rows
            for column in self._columns
        }
        try:
            os.fsync(self._descriptor)
            layout.set_lengths(self.path, lengths)
            os.fsync(self._descriptor)
        except OSError as error:
            self._sync_failed = True
            raise self._failed(error) from error
        self._flushed_rows, self._flushed_skipped = self.rows, len(self.skipped)
        self._flushed_at = time.monotonic()

    def truncate(self, rows: int, skipped: int) -> None:
        """Drop all but the first ``rows`` maps and the first ``skipped`` unread inputs."""
        if not (0 <= rows <= self.rows and 0 <= skipped <= len(self.skipped)):
            raise ValueError(f"cannot keep {rows} of {self.rows} rows")
        del self.paths[rows:], self.skipped[skipped:]
        self._flushed_skipped = min(self._flushed_skipped, skipped)
        self.flush()

    def finish(self) -> None:
        """Flush and mark the file complete. A run of unreadable inputs alone has a file too."""
        if not self.complete:
            self._open(None)
            self.flush()
            try:
                layout.set_complete(self.path)
            except OSError as error:
                raise self._failed(error) from error
            self.complete = True

    def close(self) -> None:
        """Flush, leaving the file incomplete unless :meth:`finish` was called."""
        if self._descriptor is None:
            return
        try:
            # A system tells only once that rows did not reach the disk: another try would succeed,
            # and make them part of the file.
            if not (self.complete or self._sync_failed):
                self.flush()
        finally:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A full disk is told once, by the error that is already on its way.
        with contextlib.suppress(*([LcamError] if error else [])):
            self.close()

    def _claim(self, *, resume: bool, overwrite: bool) -> None:
        """Decide what becomes of a file that exists, before any work is done."""
        if self.path.is_dir():
            raise LcamError(f"{self.path} is a folder", "name a file ending in .h5")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._failed(error) from error
        if not os.access(self.path.parent, os.W_OK | os.X_OK):
            raise LcamError(f"the folder {self.path.parent} is not writable", "use another --out")
        if not self.path.exists() or overwrite:
            return
        if not resume:
            raise LcamError(f"{self.path} exists", "use --resume, --overwrite or another --out")
        self._resume()

    def _resume(self) -> None:
        with MapsFile(self.path) as old:
            differs = (
                old.info.difference(self._info)
                or _unequal("map size", old.size, self._size)
                or _unequal("map dtype", old.map_dtype, self._dtype)
            )
            if differs:
                raise LcamError(
                    f"{self.path} holds other maps: {differs}",
                    "use the same settings, --overwrite or another --out",
                )
            self.complete = old.complete
            self.paths = old.paths()
            self.skipped = old.skipped
            cam_size = old.cam_size
        if self.complete:
            return
        room = layout.read_room(self.path)
        if not room.holds(self._room):
            raise LcamError(
                f"{self.path} was begun for fewer or shorter inputs than these",
                "name the same inputs, or use --overwrite or another --out",
            )
        self._room = room
        self._attach(cam_size)
        self._flushed_rows, self._flushed_skipped = self.rows, len(self.skipped)

    def _open(self, cam_size: tuple[int, ...] | None) -> None:
        """Make the file for maps with raw maps of that size, unless it is there already."""
        if self._descriptor is not None:
            return
        shape = None if cam_size is None else (cam_size[0], cam_size[1])
        made = layout.columns(self._room, self._dtype, self._size, shape)
        try:
            with whole_file(self.path) as temporary:
                layout.create(temporary, self._info, made)
        except OSError as error:
            raise self._failed(error) from error
        self._attach(shape)

    def _attach(self, cam_size: tuple[int, int] | None) -> None:
        self._columns = layout.columns(self._room, self._dtype, self._size, cam_size)
        try:
            self._offsets = layout.offsets(self.path, self._columns)
            self._descriptor = os.open(self.path, os.O_RDWR)
        except OSError as error:
            raise self._failed(error) from error

    def _write_rows(self, parts: dict[str, Any]) -> None:
        names = {column.name for column in self._columns}
        if ("cam" in parts) != ("cam" in names):
            raise ValueError("all batches of a file have raw maps, or none has")
        self._write(parts, self.rows, self._room.rows)

    def _write(self, parts: dict[str, Any], first: int, room: int) -> None:
        """Write rows from ``first`` on to the places reserved for them."""
        assert self._descriptor is not None
        for column in self._columns:
            if column.name not in parts:
                continue
            rows = _pack(parts[column.name], column)
            if first + len(rows) > room:
                raise ValueError(f"{self.path} has room for {room} rows")
            try:
                layout.write_at(
                    self._descriptor,
                    rows,
                    self._offsets[column.name] + first * column.row_bytes,
                )
            except OSError as error:
                raise self._failed(error) from error

    def _failed(self, error: OSError) -> LcamError:
        why = os.strerror(error.errno) if error.errno else str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            why += f"; the rest needs up to {self._bytes_to_come:,} bytes"
            with contextlib.suppress(OSError):
                why += f", {shutil.disk_usage(self.path.parent).free:,} are free"
        return LcamError(
            f"cannot write {self.path}: {why}",
            "free some space or use another --out; what was flushed can go on with --resume",
        )

    @property
    def _bytes_to_come(self) -> int:
        """What the rows need that are not yet in the file, if no further input is unreadable."""
        made = self._columns or layout.columns(self._room, self._dtype, self._size, None)
        return sum(
            column.row_bytes * (self._room.rows - self.rows)
            for column in made
            if not column.name.startswith("skipped/")
        )


def _stored(batch: MapBatch, map_dtype: MapDtype) -> dict[str, Any]:
    """Return the datasets' rows of a batch, by name."""
    saliency = batch.saliency
    if map_dtype == "uint8":
        saliency = np.rint(saliency * np.float32(255))
    return {
        "class_index": batch.class_index,
        "predicted_index": batch.predicted_index,
        "confidence": batch.confidence,
        "crop_box": batch.crop_box,
        "class_name": [layout.utf8(name) for name in batch.class_names],
        "path": [layout.utf8(path) for path in batch.paths],
        **({} if batch.cam is None else {"cam": batch.cam}),
        "saliency": saliency,
    }


def _pack(rows: Sequence[bytes] | NDArray[Any] | Floats, column: layout.Column) -> NDArray[Any]:
    """Return the rows as they lie in the file."""
    if column.dtype.kind == "S" and max(map(len, rows), default=0) > column.dtype.itemsize:
        raise ValueError(f"a {column.name} is longer than the room for it")
    packed = np.ascontiguousarray(rows, dtype=column.dtype)
    if packed.shape[1:] != column.shape:
        raise ValueError(f"{column.name} has rows of {packed.shape[1:]}, not {column.shape}")
    return packed


def _unequal(what: str, old: object, new: object) -> str:
    return "" if old == new else f"{what} is {old!r}, not {new!r}"
