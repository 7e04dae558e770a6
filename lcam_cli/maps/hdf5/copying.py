"""Rows of maps files, copied to another file as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np

from lcam_cli.errors import LcamError
from lcam_cli.maps.hdf5.attributes import FILE_ID, JOINED_IDS
from lcam_cli.maps.hdf5.class_names import CLASSES

_ROWS_AT_ONCE = 256


def copy_attributes(old: h5py.File, new: h5py.Group, *left_out: str) -> None:
    """Copy what a file says of its maps, and not what it says of itself as a file.

    Args:
        old: The file.
        new: Where the attributes go.
        left_out: Further ones that do not hold for the copy.
    """
    for name, value in old.attrs.items():
        if name not in (*left_out, FILE_ID, JOINED_IDS):
            new.attrs[name] = value


def copy_rows(sources: Sequence[h5py.Dataset], group: h5py.Group) -> None:
    """Copy the rows of a dataset that lies in several files, one behind the other.

    What is copied are the rows that are there, and none of the room reserved for more.

    Args:
        sources: The dataset in each of the files; same name, same kind of rows.
        group: Where the copy goes, under the same name.
    """
    first = sources[0]
    rows = sum(map(len, sources))
    chunks = (1, *first.shape[1:]) if len(first.shape) == 3 and rows else None
    new = group.create_dataset(
        first.name.strip("/"),
        shape=(rows, *first.shape[1:]),
        dtype=common_type(sources),
        chunks=chunks,
        track_times=False,
    )
    at = 0
    for old in sources:
        for start in range(0, len(old), _ROWS_AT_ONCE):
            block = old[start : start + _ROWS_AT_ONCE]
            new[at : at + len(block)] = block
            at += len(block)


def common_type(sources: Sequence[h5py.Dataset]) -> np.dtype[Any]:
    """Return a type that holds the rows of every one: texts are as wide as the widest.

    Raises:
        LcamError: Numbers are of several types; HDF5 would cast them without a word.
    """
    text = [h5py.check_string_dtype(dataset.dtype) for dataset in sources]
    widths = [info.length for info in text if info is not None]
    kind: np.dtype[Any] = sources[0].dtype
    if widths:
        kind = h5py.string_dtype("utf-8", None if None in widths else max(widths))
    for dataset in sources:
        if not widths and dataset.dtype != kind:
            raise LcamError(
                f"{dataset.name} is {dataset.dtype} in {dataset.file.filename}, and {kind} in "
                f"{sources[0].file.filename}",
                "merge only shards of one run",
            )
    return kind


def dataset_names(file: h5py.File) -> list[str]:
    """Return the names of all datasets of a file that have rows."""
    names: list[str] = []
    file.visititems(
        lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None
    )
    return [name for name in names if name != CLASSES]
