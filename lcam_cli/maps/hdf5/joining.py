"""A maps file that joins shards: HDF5 virtual datasets, which read like those of one file.

The shards stay where they are, in the same folder; the file has their names alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import h5py

from lcam_cli.maps.atomic import atomic_file, cannot_write
from lcam_cli.maps.flat import find_flat_rows
from lcam_cli.maps.hdf5.attributes import FILE_ID, FLAT_ROWS, JOINED_IDS, new_id, read_id
from lcam_cli.maps.hdf5.class_names import copy_class_names
from lcam_cli.maps.hdf5.copying import common_type, copy_attributes, dataset_names
from lcam_cli.maps.hdf5.resuming import ReusablePart


def join(out: Path, parts: Sequence[ReusablePart]) -> int:
    """Write a file that joins what is kept of shards, whole or not at all.

    Args:
        out: The file, in the folder of the shards; what is there is replaced.
        parts: What is kept of each, in order.

    Returns:
        Its rows.

    Raises:
        LcamError: It cannot be written, or the shards' rows are not of one type.
    """
    try:
        with ExitStack() as stack, atomic_file(out) as temporary:
            new = stack.enter_context(h5py.File(temporary, "w", locking=False))
            old = [stack.enter_context(h5py.File(k.file, "r", locking=False)) for k in parts]
            copy_attributes(old[0], new, "shard", "complete", "created", FLAT_ROWS)
            copy_class_names(old[0], new)
            new.attrs[FLAT_ROWS] = sum(
                len(find_flat_rows(file["saliency"], k.rows))
                for k, file in zip(parts, old, strict=True)
            )
            new.attrs[FILE_ID] = new_id()
            # So that a reader notices when one of them is another run's.
            ids = {k.file.name: read_id(o.attrs) for k, o in zip(parts, old, strict=True)}
            new.attrs[JOINED_IDS] = json.dumps(ids, sort_keys=True)
            new.attrs["created"] = min(file.attrs["created"] for file in old)
            new.attrs["complete"] = True
            with_rows = [k for k in range(len(parts)) if parts[k].rows] or [0]
            for name in dataset_names(old[with_rows[0]]):
                if name.startswith("skipped/"):
                    values = [
                        value
                        for part, file in zip(parts, old, strict=True)
                        for value in file[name][: len(part.skipped)]
                    ]
                    kind = common_type([file[name] for file in old])
                    new.create_dataset(name, data=values, shape=(len(values),), dtype=kind)
                else:
                    _join_rows([(parts[k], old[k][name]) for k in with_rows], new, name)
        return sum(part.rows for part in parts)
    except (OSError, RuntimeError) as error:  # h5py has both for a full disk
        hint = "free some space; the shards are kept, and --resume joins them"
        raise cannot_write(out, error, needed="a little", hint=hint) from error


def _join_rows(
    sources: Sequence[tuple[ReusablePart, h5py.Dataset]], new: h5py.File, name: str
) -> None:
    rows = sum(part.rows for part, _ in sources)
    shape = (rows, *sources[0][1].shape[1:])
    kind = common_type([dataset for _, dataset in sources])
    if not rows:  # nothing could be read
        new.create_dataset(name, shape=shape, dtype=kind)
        return
    layout = h5py.VirtualLayout(shape, kind)
    at = 0
    for part, dataset in sources:
        # A plain name is looked for in the folder of the file itself; "%" begins a pattern.
        source = h5py.VirtualSource(
            part.file.name.replace("%", "%%"), name, dataset.shape, dtype=dataset.dtype
        )
        layout[at : at + part.rows] = source[: part.rows]
        at += part.rows
    new.create_virtual_dataset(name, layout)
