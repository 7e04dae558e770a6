"""Reading a maps file, without trusting who made it.

Everything is checked when the file is opened (what it holds) or when rows are read (their values),
so that whoever takes a :class:`MapBatch` from here can rely on it. Only datasets that lie in the
file itself are read, or in shards in the file's own folder; a file can name others, anywhere.
Sizes are compared with what is stored before memory is taken, and the library itself is tried out
on the file in another process (:mod:`lcam_cli.maps.hdf5.sandbox`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from lcam_cli.errors import LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.maps.flat import FlatSummary, find_flat_rows
from lcam_cli.maps.hdf5 import attributes, sandbox
from lcam_cli.maps.hdf5.checks import Kind
from lcam_cli.maps.hdf5.class_names import read_class_names
from lcam_cli.maps.hdf5.joined_file import JoinedFile, shards_of
from lcam_cli.maps.hdf5.texts import read_texts
from lcam_cli.maps.paths import resolve_path
from lcam_cli.maps.record import MapBatch, MapsInfo

_GIVE_MAPS = "pass a maps file: lcam explain … --out FILE.h5"
OVERWRITE_HINT = "write it again with --overwrite"
"""What to do about a file that cannot be gone on with."""

_MOST_BATCH_BYTES = 1 << 28
_INDICES_AT_ONCE = 1 << 20

_ROWS = {
    "class_index": Kind(1, ("int32",)),
    "predicted_index": Kind(1, ("int32",)),
    "confidence": Kind(1, ("float32",)),
    "crop_box": Kind(2, ("float32",)),
    "class_name": Kind(1),
    "path": Kind(1),
    "saliency": Kind(3, ("float16", "uint8", "float32")),
}
_CAM = {"cam": Kind(3, ("float32",))}
_SKIPPED = {"skipped/path": Kind(1), "skipped/reason": Kind(1)}


class MapsFile:
    """A maps file opened for reading; a context manager.

    A file whose run died is read up to its last flush.

    Args:
        path: The HDF5 file.
        method: Whose maps, in a file that holds those of several methods.
        trusted: Whether it is known that HDF5 comes to no harm by the file.
        hint: What to do where it is no HDF5 file.

    Attributes:
        path: The file.
        info: What all maps have in common.
        complete: Whether the run that wrote it came to its end.
        size: (H, W) of a saliency map.
        cam_size: (P, Q) of a raw map; None where there are none.
        map_dtype: Name of the type that saliency is stored as.
        flat_rows: How many maps have one value everywhere; None where the file does not say.
        skipped: Inputs that could not be read.
        shards: The files that it joins, and the first and last row of each; empty where it holds
            its rows itself.

    Raises:
        LcamError: if it is missing, no maps file, or not as the format says.
    """

    def __init__(
        self,
        path: str | Path,
        method: str | None = None,
        *,
        trusted: bool = False,
        hint: str = _GIVE_MAPS,
    ) -> None:
        path = path if isinstance(path, Path) else Path(path)
        self.path = path
        if path.is_dir():
            raise LcamError(
                f"{path} is a folder; only HDF5 files can be evaluated or merged",
                "write one with lcam explain … --out FILE.h5",
            )
        if not path.is_file():
            raise LcamError(f"no maps file {path}", "write one with lcam explain … --out FILE.h5")
        if not trusted:
            sandbox.check(path, method)
        try:
            self._file = h5py.File(path, "r", locking=False)
        except (OSError, RuntimeError, ValueError, KeyError, MemoryError) as error:
            raise LcamError(f"{path} is not an HDF5 file, or it is damaged", hint) from error
        try:
            self._group = self._group_of(method)
            self._check()
        except LcamError as error:
            self.close()
            if error.hint:  # the file is in order, and the wrong thing was asked of it
                raise
            raise self._refused(error.what) from error
        except (
            *(OSError, RuntimeError, ValueError, TypeError, KeyError),
            *(AttributeError, OverflowError, MemoryError),
        ) as error:
            self.close()
            raise self._refused(f"it cannot be read ({error})") from error

    def __len__(self) -> int:
        return self._rows

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def rows(self, start: int, stop: int) -> MapBatch:
        """Read the rows from ``start`` up to ``stop``, as float32 in [0, 1] whatever is stored.

        Raises:
            LcamError: if values are not what the format says: V outside [0, 1], not finite.
        """
        start, stop, _ = slice(start, stop).indices(self._rows)
        try:
            batch = self._read(start, stop)
        except (OSError, RuntimeError, ValueError, MemoryError) as error:
            raise self._refused(f"rows {start} to {stop} cannot be read ({error})") from error
        wrong = _wrong_values(batch)
        if wrong:
            raise self._refused(f"{wrong} in rows {start} to {stop}")
        return batch

    def difference(self, info: MapsInfo, size: tuple[int, int], map_dtype: str) -> str:
        """Name the first thing that makes maps of a run no continuation of this file's.

        Args:
            info: What the run's maps have in common.
            size: (H, W) of one.
            map_dtype: What they are stored as.

        Returns:
            E.g. ``"map dtype is 'uint8', not 'float16'"``; empty where nothing differs.
        """
        return (
            self.info.difference(info)
            or _unequal("map size", self.size, size)
            or _unequal("map dtype", self.map_dtype, map_dtype)
        )

    def batches(self, size: int) -> Iterator[MapBatch]:
        """Read all rows, ``size`` at a time or fewer where they are large, in constant memory."""
        size = max(1, min(size, _MOST_BATCH_BYTES // (4 * math.prod(self.size))))
        for start in range(0, self._rows, size):
            yield self.rows(start, start + size)

    def paths(self) -> list[str]:
        """Return the path of every row.

        Raises:
            LcamError: if they cannot be read, or are more than memory should hold.
        """
        try:
            return self._texts("path", 0, self._rows)
        except (OSError, RuntimeError, ValueError, MemoryError) as error:
            raise self._refused(f"its paths cannot be read ({error})") from error

    def highest_class(self) -> int:
        """Return the highest class index of any row, of at least one.

        Raises:
            LcamError: if they cannot be read.
        """
        column = self._group["class_index"]
        try:
            return max(
                int(column[start : start + _INDICES_AT_ONCE].max())
                for start in range(0, self._rows, _INDICES_AT_ONCE)
            )
        except (OSError, RuntimeError, ValueError, MemoryError) as error:
            raise self._refused(f"its classes cannot be read ({error})") from error

    def find_flat_rows(self) -> list[int]:
        """Return the numbers of the rows whose maps have one value everywhere, by looking at all.

        Raises:
            LcamError: if they cannot be read.
        """
        try:
            return find_flat_rows(self._group["saliency"], self._rows)
        except (OSError, RuntimeError, ValueError, MemoryError) as error:
            raise self._refused(f"its maps cannot be read ({error})") from error

    def flat_summary(self) -> FlatSummary | None:
        """Return how many maps are flat, and which is the first; None where the file says of none.

        Raises:
            LcamError: if they cannot be read.
        """
        rows = self.find_flat_rows() if self.flat_rows else []
        if not rows:
            return None
        first = self.rows(rows[0], rows[0] + 1)
        return FlatSummary(len(rows), first.paths[0], int(first.class_index[0]))

    def resolve(self, row_path: str, images: Path | None = None) -> Path:
        """Return where the image of a row lies.

        Args:
            row_path: The path of a row.
            images: The folder the caller names in place of the file's own root.

        Raises:
            BadImageError: if the path leads out of that folder.
        """
        # A relative root starts at the file, not at wherever the reader happens to be.
        folder = images or self.path.parent / self.info.root
        return resolve_path(row_path, folder, named_by_caller=images is not None)

    def _group_of(self, method: str | None) -> h5py.Group:
        """Return where the maps lie: the file itself, or the group of the method asked for."""
        if attributes.attribute(self._file.attrs, "schema", str) != attributes.METHODS_SCHEMA:
            if method is not None:
                raise LcamError(
                    f"{self.path} holds the maps of only one method", "remove the method"
                )
            return self._file
        links = {name: self._file.get(name, getlink=True) for name in self._file}
        known = [name for name, link in links.items() if isinstance(link, h5py.HardLink)]
        if method not in known:
            asked = "" if method is None else f", but not of {method!r}"
            raise LcamError(
                f"{self.path} holds the maps of several methods{asked}",
                f"pass --method with one of: {', '.join(known)}",
            )
        group = self._file[method]
        if not isinstance(group, h5py.Group):
            raise LcamError(f"{method} is not a group")
        return group

    def _check(self) -> None:
        said = self._group.attrs
        self.info = dataclasses.replace(
            attributes.read_info(said), classes=read_class_names(self._group)
        )
        self.flat_rows = attributes.read_flat_rows(said)
        self.complete = attributes.is_complete(said)
        joined = JoinedFile(self.path, attributes.read_joined_ids(said))
        kinds = _ROWS | (_CAM if "cam" in self._group else {})
        for name, kind in (kinds | _SKIPPED).items():
            joined.check(self._group, name, kind)
        self._rows = self._common_length(kinds)
        skipped = self._common_length(_SKIPPED)
        saliency = self._group["saliency"]
        if self._group["crop_box"].shape[1] != 4:
            raise LcamError("crop_box does not have 4 numbers per row")
        self.size: tuple[int, int] = saliency.shape[1:]
        self.cam_size: tuple[int, int] | None = (
            self._group["cam"].shape[1:] if "cam" in kinds else None
        )
        self.shards = shards_of(saliency, self.path.parent)
        self.map_dtype: str = saliency.dtype.newbyteorder("=").name
        self.skipped = [
            Skipped(path, reason)
            for path, reason in zip(
                self._texts("skipped/path", 0, skipped),
                self._texts("skipped/reason", 0, skipped),
                strict=True,
            )
        ]

    def _common_length(self, names: Iterable[str]) -> int:
        """The rows that all these datasets have; a run that died may have cut them unevenly."""
        lengths = {name: self._group[name].shape[0] for name in names}
        if self.complete and len(set(lengths.values())) > 1:
            raise LcamError(f"its datasets differ in length: {lengths}")
        return int(min(lengths.values()))

    def _read(self, start: int, stop: int) -> MapBatch:
        def numbers(name: str, dtype: str) -> NDArray[Any]:
            values: NDArray[Any] = self._group[name][start:stop]
            return values.astype(dtype, copy=False)

        saliency = numbers("saliency", "float32")
        if self.map_dtype == "uint8":
            saliency /= np.float32(255)
        return MapBatch(
            saliency=saliency,
            cam=None if self.cam_size is None else numbers("cam", "float32"),
            paths=self._texts("path", start, stop),
            class_index=numbers("class_index", "int32"),
            predicted_index=numbers("predicted_index", "int32"),
            class_names=self._texts("class_name", start, stop),
            confidence=numbers("confidence", "float32"),
            crop_box=numbers("crop_box", "float32"),
        )

    def _texts(self, name: str, start: int, stop: int) -> list[str]:
        return read_texts(self._group[name], start, stop)

    def _refused(self, why: str) -> LcamError:
        return LcamError(
            f"{self.path}: {why}",
            "write it again with lcam explain: it is damaged, or another program wrote it",
        )


def _unequal(what: str, old: object, new: object) -> str:
    return "" if old == new else f"{what} is {old!r}, not {new!r}"


def _wrong_values(batch: MapBatch) -> str:
    """Name the first part with values that the format excludes; empty where there is none."""

    def outside(values: NDArray[Any]) -> bool:
        # NaN fails the comparison too.
        return bool(values.size) and not (values.min() >= 0 and values.max() <= 1)

    if outside(batch.saliency):
        return "saliency is outside [0, 1]"
    if outside(batch.confidence):
        return "confidence is outside [0, 1]"
    if batch.cam is not None and not np.isfinite(batch.cam).all():
        return "cam not finite"
    if not np.isfinite(batch.crop_box).all():
        return "crop_box is not finite"
    if (batch.class_index < 0).any() or (batch.predicted_index < 0).any():
        return "negative class"
    return ""
