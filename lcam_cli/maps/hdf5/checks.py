"""What a dataset of a stranger's file must be before anything of it is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import PurePosixPath

import h5py

from lcam_cli.errors import LcamError
from lcam_cli.maps.hdf5.texts import LONGEST_TEXT

# A row larger than this is a lie about its shape, or a trap for our memory.
_MOST_ROW_BYTES = 1 << 26


@dataclass(frozen=True)
class Kind:
    """What is expected of a dataset.

    Attributes:
        dimensions: How many it has.
        types: The names of those that its numbers may have; none for texts.
    """

    dimensions: int
    types: tuple[str, ...] = ()


def check_stored(file: h5py.Group, name: str, kind: Kind) -> None:
    """Check that a dataset is what it should be, and that its values lie in the file itself.

    Args:
        file: The file, or the group, that it is in.
        name: Its name from there.
        kind: What it should be.

    Raises:
        LcamError: It is not, or they do not.
    """
    dataset = declared(file, name, kind)
    if dataset.is_virtual:
        raise LcamError(f"{name} is joined from files that are themselves joined")
    check_held(dataset, name)


def declared(file: h5py.Group, name: str, kind: Kind) -> h5py.Dataset:
    """Return a dataset that says it is what it should be; see :func:`check_stored`.

    It may be joined from other files.

    Raises:
        LcamError: It does not, or is none, or is but a link.
    """
    parts = PurePosixPath(name).parts
    for depth in range(1, len(parts) + 1):
        link = file.get("/".join(parts[:depth]), getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise LcamError(f"{name} is missing" if link is None else f"{name} is a link")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise LcamError(f"{name} is not a dataset")
    if len(dataset.shape or ()) != kind.dimensions:
        raise LcamError(f"{name} does not have {kind.dimensions} dimensions")
    _check_type(dataset, name, kind)
    if dataset.external:
        raise LcamError(f"{name} is in another file")
    return dataset


def check_held(dataset: h5py.Dataset, name: str) -> None:
    """Check that a dataset's values are in its file, not only declared.

    Raises:
        LcamError: They are not.
    """
    if not _is_stored(dataset):
        raise LcamError(f"{name} says it has {dataset.shape[0]} rows but does not hold them")


def _check_type(dataset: h5py.Dataset, name: str, kind: Kind) -> None:
    """Check what a dataset's values are, and that no row or chunk of them is enormous."""
    if not kind.types:
        text = h5py.check_string_dtype(dataset.dtype)
        if text is None or (text.length or 0) > LONGEST_TEXT:
            raise LcamError(f"{name} is not text")
    elif dataset.dtype.newbyteorder("=").name not in kind.types:
        raise LcamError(f"{name} is {dataset.dtype}, not {' or '.join(kind.types)}")
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
