"""Writing a maps file: batches in, rows on disk, resumable after any death.

The layout, and why it survives a kill, is told in :mod:`lcam_cli.maps.hdf5.layout`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lcam_cli.errors import LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.maps.atomic import atomic_file, cannot_write, human_size
from lcam_cli.maps.flat import FlatSummary, find_flat
from lcam_cli.maps.hdf5 import layout
from lcam_cli.maps.hdf5.layout import Capacity
from lcam_cli.maps.hdf5.reader import OVERWRITE_HINT, MapsFile
from lcam_cli.maps.hdf5.texts import utf8
from lcam_cli.maps.record import Floats, MapBatch, MapDtype, MapsInfo

FLUSH_ROWS = 1000
FLUSH_SECONDS = 10.0

_ROWS_AT_ONCE = 64


class Hdf5Writer:
    """Appends batches to a maps file; a context manager, which flushes on the way out.

    The file appears with the first map or flush. With ``overwrite`` the old file is replaced at
    that moment, so it outlives mistakes found before it. Leaving the block without :meth:`finish`
    leaves an incomplete file that ``resume`` goes on with.

    Args:
        path: The file to write; its folder is made.
        info: What all maps have in common.
        size: (H, W) of a map.
        capacity: How much the file must hold at most.
        map_dtype: How saliency is stored.
        resume: Go on with the file if there is one. Where it was begun for fewer inputs, its rows
            are copied to a larger one.
        overwrite: Replace the file if there is one.
        before_flush: Called before rows become part of the file; brings to the disk what has to
            be there with them.

    Attributes:
        paths: The path of each row, in order, those not yet flushed included.
        skipped: Inputs that could not be read, in order.
        flat_rows: The numbers of the rows whose maps have one value everywhere as they are stored;
            of an unfinished file.
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
        capacity: Capacity,
        map_dtype: MapDtype = "float16",
        resume: bool = False,
        overwrite: bool = False,
        before_flush: Callable[[], None] = lambda: None,
    ) -> None:
        created = info.created or datetime.now(UTC).isoformat(timespec="seconds")
        self.path = path
        self.paths: list[str] = []
        self.skipped: list[Skipped] = []
        self.flat_rows: list[int] = []
        self.complete = False
        self._info = dataclasses.replace(info, created=created)
        self._size = size
        self._capacity = capacity
        self._dtype = map_dtype
        self._before_flush = before_flush
        self._offsets: dict[str, int] = {}
        self._columns: list[layout.Column] = []
        self._cam_size: tuple[int, int] | None = None
        self._descriptor: int | None = None
        self._lost = False
        self._flushed_rows = self._flushed_skipped = 0
        self._flushed_at = time.monotonic()
        self._claim(resume=resume, overwrite=overwrite)

    @property
    def rows(self) -> int:
        """Maps in the file, those not yet flushed included."""
        return len(self.paths)

    def append(self, batch: MapBatch) -> None:
        """Add rows in order; they are sure to be kept from the next flush on.

        Raises:
            LcamError: if the disk is full or fails.
            ValueError: if V leaves [0, 1], or the batch does not fit the size or the capacity.
        """
        batch.check()
        if self.complete:
            raise ValueError(f"{self.path} is finished")
        if len(batch) and batch.saliency.shape[1:] != self._size:
            raise ValueError(f"maps of {batch.saliency.shape[1:]} in a file of {self._size}")
        if len(batch):
            with self._explained():
                self._open(None if batch.cam is None else batch.cam.shape[1:])
                stored = _stored(batch, self._dtype)
                self._write_rows(stored, self.rows)
            flat = find_flat(stored["saliency"])
            self.flat_rows += [self.rows + int(row) for row in flat]
        self.paths += batch.paths
        self.skipped += batch.skipped
        fresh = self.rows + len(self.skipped) - self._flushed_rows - self._flushed_skipped
        if fresh >= FLUSH_ROWS or time.monotonic() - self._flushed_at >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Make everything appended so far part of the file, whatever happens afterwards.

        Raises:
            LcamError: if the disk is full or fails.
        """
        if self._lost or (self._descriptor is None and not self.skipped):
            return
        with self._explained():
            self._open(self._cam_size)
            self._commit(self.path)
        self._flushed_at = time.monotonic()

    def truncate(self, rows: int, skipped: int) -> None:
        """Drop all but the first ``rows`` maps and the first ``skipped`` unread inputs."""
        if not (0 <= rows <= self.rows and 0 <= skipped <= len(self.skipped)):
            raise ValueError(f"cannot keep {rows} of {self.rows} rows")
        del self.paths[rows:], self.skipped[skipped:]
        self.flat_rows = [row for row in self.flat_rows if row < rows]
        self._flushed_skipped = min(self._flushed_skipped, skipped)
        self.flush()

    def finish(self) -> None:
        """Flush and mark the file complete. A run of unreadable inputs alone has a file too.

        Raises:
            LcamError: if the disk is full or fails.
        """
        if self.complete:
            return
        with self._explained():
            self._open(self._cam_size)
            self._commit(self.path)
            layout.set_complete(self.path, len(self.flat_rows))
        self.complete = True

    def flat_summary(self) -> FlatSummary | None:
        """The flat maps of the finished file; None where there are none."""
        with MapsFile(self.path, trusted=True) as maps:
            return maps.flat_summary()

    def close(self) -> None:
        """Flush, leaving the file incomplete unless :meth:`finish` was called.

        Raises:
            LcamError: if the disk is full or fails.
        """
        try:
            if not self.complete:
                self.flush()
        finally:
            self._detach()

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
            raise LcamError(f"{self.path} is a folder", "pass a file name that ends in .h5")
        with self._explained():
            self.path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(self.path.parent, os.W_OK | os.X_OK):
            raise LcamError(f"the folder {self.path.parent} is not writable", "use another --out")
        if not self.path.exists() or overwrite:
            return
        if not resume:
            raise LcamError(f"{self.path} exists", "pass --resume, --overwrite or another --out")
        self._resume()

    def _resume(self) -> None:
        with MapsFile(self.path, hint=OVERWRITE_HINT) as old:
            differs = old.difference(self._info, self._size, self._dtype)
            if differs:
                raise LcamError(
                    f"{self.path} holds other maps: {differs}",
                    "use the same settings, or pass --overwrite or another --out",
                )
            self._info = self._info.continuing(old.info)
            self.complete = old.complete
            self.paths = old.paths()
            self.skipped = old.skipped
            self.flat_rows = [] if old.complete else old.find_flat_rows()
            cam_size = old.cam_size
        if self.complete:
            return
        wanted, self._capacity = self._capacity, layout.read_capacity(self.path)
        with self._explained():
            self._attach(self.path, cam_size)
            self._flushed_rows, self._flushed_skipped = self.rows, len(self.skipped)
            if not self._capacity.holds(wanted):
                self._capacity = self._capacity.joined(wanted)
                self._make(cam_size)

    def _open(self, cam_size: tuple[int, ...] | None) -> None:
        """Make the file for maps with raw maps of that size, unless it is there already.

        A file made for inputs that cannot be read, before there was any map, may have been made
        for others: then it is made anew.
        """
        shape = None if cam_size is None else (cam_size[0], cam_size[1])
        if self._descriptor is None or (not self.rows and shape != self._cam_size):
            self._make(shape)

    def _make(self, cam_size: tuple[int, int] | None) -> None:
        """Make the file, with the rows of the one it replaces, whole or not at all."""
        self._detach()
        try:
            with atomic_file(self.path) as temporary:
                made = layout.columns(self._capacity, self._dtype, self._size, cam_size)
                layout.create(temporary, self._info, made)
                self._attach(temporary, cam_size)
                if self.rows:
                    self._copy_rows()
                self._commit(temporary)
        except BaseException:
            self._detach()
            raise

    def _copy_rows(self) -> None:
        with MapsFile(self.path, trusted=True) as old:
            first = 0
            for batch in old.batches(_ROWS_AT_ONCE):
                self._write_rows(_stored(batch, self._dtype), first)
                first += len(batch)

    def _attach(self, path: Path, cam_size: tuple[int, int] | None) -> None:
        """Open the file to write rows to the places reserved for them."""
        self._cam_size = cam_size
        self._columns = layout.columns(self._capacity, self._dtype, self._size, cam_size)
        self._offsets = layout.offsets(path, self._columns)
        self._descriptor = os.open(path, os.O_RDWR)

    def _detach(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None
        self._flushed_rows = self._flushed_skipped = 0

    def _commit(self, path: Path) -> None:
        """Bring everything appended to the disk, and then make it part of the file."""
        assert self._descriptor is not None
        self._before_flush()
        fresh = self.skipped[self._flushed_skipped :]
        if fresh:
            rows = layout.skipped_rows(fresh)
            self._write(rows, self._flushed_skipped, self._capacity.skipped)
        lengths = {
            column.name: len(self.skipped) if column.name.startswith("skipped/") else self.rows
            for column in self._columns
        }
        try:
            os.fsync(self._descriptor)
            layout.set_lengths(path, lengths)
            os.fsync(self._descriptor)
        except OSError:
            # What did not reach the disk is lost, and a second attempt would not say so.
            self._lost = True
            raise
        self._flushed_rows, self._flushed_skipped = self.rows, len(self.skipped)

    def _write_rows(self, parts: dict[str, Any], first: int) -> None:
        names = {column.name for column in self._columns}
        if ("cam" in parts) != ("cam" in names):
            raise ValueError("either all batches of a file have raw maps, or none")
        self._write(parts, first, self._capacity.rows)

    def _write(self, parts: dict[str, Any], first: int, most: int) -> None:
        """Write rows from ``first`` on to the places reserved for them."""
        assert self._descriptor is not None
        for column in self._columns:
            if column.name not in parts:
                continue
            rows = _pack(parts[column.name], column)
            if first + len(rows) > most:
                raise ValueError(f"{self.path} has room for {most} rows")
            at = self._offsets[column.name] + first * column.row_bytes
            layout.write_at(self._descriptor, rows, at)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Tell the user what keeps the file from being written."""
        try:
            yield
        except (OSError, RuntimeError) as error:  # h5py has both for a full disk
            columns = layout.columns(self._capacity, self._dtype, self._size, self._cam_size)
            rows = sum(c.row_bytes for c in columns if not c.name.startswith("skipped/"))
            raise cannot_write(
                self.path,
                error,
                needed=f"up to {human_size(rows * (self._capacity.rows - self._flushed_rows))}",
                hint="free some space or use another --out; continue what is saved with --resume",
            ) from error


def _stored(batch: MapBatch, map_dtype: MapDtype) -> dict[str, Any]:
    """Return the datasets' rows of a batch, by name."""
    return {
        "class_index": batch.class_index,
        "predicted_index": batch.predicted_index,
        "confidence": batch.confidence,
        "crop_box": batch.crop_box,
        "class_name": [utf8(name) for name in batch.class_names],
        "path": [utf8(path) for path in batch.paths],
        **({} if batch.cam is None else {"cam": batch.cam}),
        "saliency": _stored_maps(batch, map_dtype),
    }


def _stored_maps(batch: MapBatch, map_dtype: MapDtype) -> NDArray[Any]:
    """Return V as it is stored."""
    values = np.rint(batch.saliency * np.float32(255)) if map_dtype == "uint8" else batch.saliency
    return values.astype(map_dtype)


def _pack(rows: Sequence[bytes] | NDArray[Any] | Floats, column: layout.Column) -> NDArray[Any]:
    """Return the rows as they lie in the file."""
    if column.dtype.kind == "S" and max(map(len, rows), default=0) > column.dtype.itemsize:
        raise ValueError(f"a {column.name} is longer than its column")
    packed = np.ascontiguousarray(rows, dtype=column.dtype)
    if packed.shape[1:] != column.shape:
        raise ValueError(f"{column.name} has rows of {packed.shape[1:]}, not {column.shape}")
    return packed
