"""One maps file for several methods: a group a method, each like a maps file of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py

from lcam_cli.maps.atomic import atomic_file, cannot_write, human_size
from lcam_cli.maps.hdf5.attributes import METHODS_SCHEMA, SCHEMA_VERSION
from lcam_cli.maps.hdf5.class_names import copy_class_names
from lcam_cli.maps.hdf5.copying import copy_attributes, copy_rows, dataset_names
from lcam_cli.maps.hdf5.reader import MapsFile


def join_methods(path: Path, sources: Mapping[str, Path]) -> None:
    """Write one file with the maps of several, whole or not at all.

    Args:
        path: The file to write; an old one is replaced.
        sources: Maps files by the name of the group each becomes.

    Raises:
        LcamError: A source cannot be read, or the file cannot be written.
    """
    try:
        with atomic_file(path) as temporary, h5py.File(temporary, "w", locking=False) as file:
            file.attrs["schema"] = METHODS_SCHEMA
            file.attrs["schema_version"] = SCHEMA_VERSION
            for name, source in sources.items():
                with MapsFile(source, trusted=True):  # checked before anything is taken from it
                    _copy(source, file.create_group(group_name(name)), name)
            file.attrs["complete"] = True
    except (OSError, RuntimeError) as error:  # h5py has both for a full disk
        capacity = sum(source.stat().st_blocks * 512 for source in sources.values())
        hint = "free some space or use another --out"
        raise cannot_write(
            path, error, needed=f"up to {human_size(capacity)}", hint=hint
        ) from error


def group_name(name: str) -> str:
    """Return the group of a method's maps: its name, without what HDF5 takes as a path."""
    return name.replace("/", "_") if name.strip("./") else f"_{name.replace('/', '_')}"


def _copy(source: Path, group: h5py.Group, name: str) -> None:
    with h5py.File(source, "r", locking=False) as old:
        copy_attributes(old, group)
        group.attrs["method"] = name
        copy_class_names(old, group)
        for column in dataset_names(old):
            copy_rows([old[column]], group)
