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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from lcam_cli.errors import LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.maps.flat import Flat, flat_rows
from lcam_cli.maps.hdf5 import layout
from lcam_cli.maps.hdf5.sandbox import try_out
from lcam_cli.maps.paths import resolve_path
from lcam_cli.maps.record import MapBatch, MapsInfo

_GIVE_MAPS = "give a maps file: lcam explain … --out FILE.h5"
WRITE_ANEW = "write it anew with --overwrite"
"""What to do about a file that cannot be gone on with."""

# A row larger than this is a lie about its shape, or a trap for our memory.
_MOST_ROW_BYTES = 1 << 26
_MOST_BATCH_BYTES = 1 << 28
# All texts of one kind together: room for ten million paths.
_MOST_TEXT_BYTES = 1 << 30
_TEXT_BLOCK_BYTES = 1 << 24
_TEXT_OBJECT_BYTES = 64
_INDICES_AT_ONCE = 1 << 20
_MOST_CLASSES = 1 << 20

_TEXT = "text"
_ROWS: dict[str, tuple[str | tuple[str, ...], int]] = {
    # name: what may be stored, dimensions
    "class_index": (("int32",), 1),
    "predicted_index": (("int32",), 1),
    "confidence": (("float32",), 1),
    "crop_box": (("float32",), 2),
    "class_name": (_TEXT, 1),
    "path": (_TEXT, 1),
    "saliency": (("float16", "uint8", "float32"), 3),
}
_SKIPPED: dict[str, tuple[str | tuple[str, ...], int]] = {
    "skipped/path": (_TEXT, 1),
    "skipped/reason": (_TEXT, 1),
}


@dataclass(frozen=True)
class _Joining:
    """A file that may join others beside it.

    Attributes:
        path: The file.
        ids: What the others were when it joined them, by their names; empty where it is not known.
    """

    path: Path
    ids: dict[str, Any]


class MapsFile:
    """A maps file opened for reading; a context manager.

    A file whose run died is read up to its last flush.

    Args:
        path: The HDF5 file.
        method: Whose maps, in a file that holds those of several methods.
        tried: Whether it is known that HDF5 comes to no harm by the file.
        instead: What to do where it is no HDF5 file.

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
        tried: bool = False,
        instead: str = _GIVE_MAPS,
    ) -> None:
        path = Path(path)
        self.path = path
        if path.is_dir():
            raise LcamError(
                f"{path} is a folder; only HDF5 files can be evaluated or merged",
                "make one with lcam explain … --out FILE.h5",
            )
        if not path.is_file():
            raise LcamError(f"no maps file {path}", "make one with lcam explain … --out FILE.h5")
        if not tried:
            try_out(path, method)
        try:
            self._file = h5py.File(path, "r", locking=False)
        except (OSError, RuntimeError, ValueError, KeyError, MemoryError) as error:
            raise LcamError(f"{path} is no HDF5 file, or a damaged one", instead) from error
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

    def flat(self) -> list[int]:
        """Return the numbers of the rows whose maps have one value everywhere, by looking at all.

        Raises:
            LcamError: if they cannot be read.
        """
        try:
            return flat_rows(self._group["saliency"], self._rows)
        except (OSError, RuntimeError, ValueError, MemoryError) as error:
            raise self._refused(f"its maps cannot be read ({error})") from error

    def first_flat(self) -> Flat | None:
        """Return how many maps are flat, and which is the first; None where the file says of none.

        Raises:
            LcamError: if they cannot be read.
        """
        rows = self.flat() if self.flat_rows else []
        if not rows:
            return None
        first = self.rows(rows[0], rows[0] + 1)
        return Flat(len(rows), first.paths[0], int(first.class_index[0]))

    def resolve(self, row_path: str, images: Path | None = None) -> Path:
        """Return where the picture of a row lies.

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
        if layout.attribute(self._file.attrs, "schema", str) != layout.METHODS_SCHEMA:
            if method is not None:
                raise LcamError(f"{self.path} holds one method's maps", "ask for no method")
            return self._file
        links = {name: self._file.get(name, getlink=True) for name in self._file}
        known = [name for name, link in links.items() if isinstance(link, h5py.HardLink)]
        if method not in known:
            asked = "" if method is None else f", none of them {method!r}"
            raise LcamError(
                f"{self.path} holds the maps of several methods{asked}",
                f"name one: {', '.join(known)}",
            )
        group = self._file[method]
        if not isinstance(group, h5py.Group):
            raise LcamError(f"{method} is no group")
        return group

    def _check(self) -> None:
        self._file_bytes = self.path.stat().st_size
        self.info = dataclasses.replace(
            layout.read_info(self._group.attrs), classes=self._class_names()
        )
        self.flat_rows = layout.read_flat_rows(self._group.attrs)
        self.complete = layout.is_complete(self._group.attrs)
        joining = _Joining(self.path, layout.read_joined_ids(self._group.attrs))
        kinds = dict(_ROWS)
        if "cam" in self._group:
            kinds["cam"] = (("float32",), 3)
        for name, (kind, dimensions) in (kinds | _SKIPPED).items():
            _check_dataset(self._group, name, kind, dimensions, joining)
        self._rows = self._common_length(kinds)
        skipped = self._common_length(_SKIPPED)
        saliency = self._group["saliency"]
        if self._group["crop_box"].shape[1] != 4:
            raise LcamError("crop_box has not 4 numbers a row")
        self.size: tuple[int, int] = saliency.shape[1:]
        self.cam_size: tuple[int, int] | None = (
            self._group["cam"].shape[1:] if "cam" in kinds else None
        )
        self.shards = _shards_of(saliency, self.path.parent) if saliency.is_virtual else []
        self.map_dtype: str = saliency.dtype.newbyteorder("=").name
        self.skipped = [
            Skipped(path, reason)
            for path, reason in zip(
                self._texts("skipped/path", 0, skipped),
                self._texts("skipped/reason", 0, skipped),
                strict=True,
            )
        ]

    def _class_names(self) -> tuple[str, ...]:
        """The names of all classes; none where the file does not have them."""
        if layout.CLASSES not in self._group:
            return ()
        _check_dataset(self._group, layout.CLASSES, _TEXT, 1, None)
        names = self._group[layout.CLASSES]
        if len(names) > _MOST_CLASSES or len(names) * names.dtype.itemsize > _MOST_BATCH_BYTES:
            raise LcamError(f"{layout.CLASSES} has {len(names)} names")
        return tuple(self._texts(layout.CLASSES, 0, len(names)))

    def _common_length(self, names: dict[str, Any]) -> int:
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
        """Read texts a block at a time, so that no claim about their size is believed."""
        dataset = self._group[name]
        # A text of variable length lies in the file, or in a shard, and is no longer than that.
        fixed = h5py.check_string_dtype(dataset.dtype).length
        longest = fixed or (_TEXT_BLOCK_BYTES if dataset.is_virtual else self._file_bytes)
        block = max(1, _TEXT_BLOCK_BYTES // longest)
        texts: list[str] = []
        taken = 0
        for first in range(start, stop, block):
            for raw in dataset[first : min(first + block, stop)]:
                texts.append(bytes(raw).decode("utf-8", "surrogateescape"))
                taken += len(raw) + _TEXT_OBJECT_BYTES
            if taken > _MOST_TEXT_BYTES:
                raise ValueError(f"{name} holds more than {_MOST_TEXT_BYTES >> 30} GiB of text")
        return texts

    def _refused(self, why: str) -> LcamError:
        return LcamError(f"{self.path}: {why}", "it is damaged, or not written by lcam")


def _unequal(what: str, old: object, new: object) -> str:
    return "" if old == new else f"{what} is {old!r}, not {new!r}"


def _wrong_values(batch: MapBatch) -> str:
    """Name the first part with values that the format excludes; empty where there is none."""

    def outside(values: NDArray[Any]) -> bool:
        # NaN fails the comparison too.
        return bool(values.size) and not (values.min() >= 0 and values.max() <= 1)

    if outside(batch.saliency):
        return "saliency outside [0, 1]"
    if outside(batch.confidence):
        return "confidence outside [0, 1]"
    if batch.cam is not None and not np.isfinite(batch.cam).all():
        return "cam not finite"
    if not np.isfinite(batch.crop_box).all():
        return "crop_box not finite"
    if (batch.class_index < 0).any() or (batch.predicted_index < 0).any():
        return "negative class"
    return ""


def _check_dataset(
    file: h5py.File,
    name: str,
    kind: str | tuple[str, ...],
    dimensions: int,
    joining: _Joining | None,
) -> None:
    """Check that a dataset lies where and is what it should be.

    Args:
        file: The file it is in.
        name: Its name, from the file's root.
        kind: The types it may have.
        dimensions: How many it must have.
        joining: The file, if its datasets may be joined from shards beside it.

    Raises:
        LcamError: if it does not, or is not.
    """
    parts = PurePosixPath(name).parts
    for depth in range(1, len(parts) + 1):
        link = file.get("/".join(parts[:depth]), getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise LcamError(f"{name} is missing" if link is None else f"{name} is a link")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise LcamError(f"{name} is no dataset")
    if len(dataset.shape or ()) != dimensions:
        raise LcamError(f"{name} has not {dimensions} dimensions")
    _check_type(dataset, name, kind)
    if dataset.external:
        raise LcamError(f"{name} lies in another file")
    if dataset.is_virtual:
        if joining is None:
            raise LcamError(f"{name} is joined from files that are joined themselves")
        _check_shards(dataset, name, kind, dimensions, joining)
    elif not _is_stored(dataset):
        raise LcamError(f"{name} says it has {dataset.shape[0]} rows and does not hold them")


def _check_type(dataset: h5py.Dataset, name: str, kind: str | tuple[str, ...]) -> None:
    """Check what a dataset's values are, and that no row or chunk of them is enormous."""
    if kind == _TEXT:
        text = h5py.check_string_dtype(dataset.dtype)
        if text is None or (text.length or 0) > layout.LONGEST_TEXT:
            raise LcamError(f"{name} is no text")
    elif dataset.dtype.newbyteorder("=").name not in kind:
        raise LcamError(f"{name} is {dataset.dtype}, not {' or '.join(kind)}")
    row = math.prod(dataset.shape[1:]) * dataset.dtype.itemsize
    if not 0 < row <= _MOST_ROW_BYTES:
        raise LcamError(f"{name} has rows of {row} bytes")
    chunk = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
    if chunk > _MOST_ROW_BYTES:
        raise LcamError(f"{name} has chunks of {chunk} bytes")


def _is_stored(dataset: h5py.Dataset) -> bool:
    """Whether a dataset's values are in its file, not only declared."""
    stored = dataset.id.get_storage_size()
    if stored > dataset.file.id.get_filesize():
        return False
    if dataset.chunks is None:
        return bool(stored >= math.prod(dataset.shape) * dataset.dtype.itemsize)
    chunks = [-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True)]
    return bool(dataset.id.get_num_chunks() >= math.prod(chunks))


def _check_shards(
    dataset: h5py.Dataset,
    name: str,
    kind: str | tuple[str, ...],
    dimensions: int,
    joining: _Joining,
) -> None:
    """Check that the sources of a virtual dataset are the files it joined, whole, beside it."""
    joined, path = 0, joining.path
    for source in dataset.virtual_sources():
        if "%" in source.file_name.replace("%%", ""):
            raise LcamError(f"{name} lies in files known by a pattern, {source.file_name}")
        joined += source.vspace.get_select_npoints()
        shard = _shard_name(source.file_name)
        here = path.parent.resolve()
        found = (here / shard).resolve()
        if shard.is_absolute() or not found.is_relative_to(here):
            raise LcamError(f"{name} lies outside the file's folder, in {source.file_name}")
        # HDF5 would read a missing shard as zeros; and "." would be this file again.
        if not found.is_file() or found == path.resolve():
            raise LcamError(f"{name} lies in {source.file_name}, which is missing")
        with h5py.File(found, "r", locking=False) as file:
            _check_unchanged(file, shard.name, joining)
            _check_dataset(file, source.dset_name.strip("/"), kind, dimensions, None)
    # What no shard holds would be read as zeros.
    if joined < math.prod(dataset.shape):
        raise LcamError(f"{name} says it has {dataset.shape[0]} rows and does not join them")


def _check_unchanged(shard: h5py.File, name: str, joining: _Joining) -> None:
    """Check that a shard is the file that was joined, and not that of a later run."""
    if name in joining.ids and layout.read_id(shard.attrs) != joining.ids[name]:
        raise LcamError(
            f"{joining.path} joins {name}, which has been written anew since",
            "make it anew with --overwrite, or put back the file that it joined",
        )


def _shard_name(stored: str) -> PurePosixPath:
    return PurePosixPath(stored.replace("%%", "%"))


def _shards_of(saliency: h5py.Dataset, folder: Path) -> list[tuple[Path, int, int]]:
    """Return the files behind a virtual dataset, each with the first and the last row it gives."""
    found = []
    for source in saliency.virtual_sources():
        first, last = source.vspace.get_select_bounds()
        found.append((folder / _shard_name(source.file_name), int(first[0]), int(last[0])))
    return found
