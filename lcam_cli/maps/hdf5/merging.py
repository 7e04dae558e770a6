"""One plain maps file of the shards of a run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import h5py

from lcam_cli.maps.atomic import atomic_file, cannot_write, human_size
from lcam_cli.maps.hdf5.attributes import FILE_ID, FLAT_ROWS, new_id
from lcam_cli.maps.hdf5.class_names import copy_class_names
from lcam_cli.maps.hdf5.copying import copy_attributes, copy_rows, dataset_names
from lcam_cli.maps.hdf5.reader import MapsFile
from lcam_cli.maps.hdf5.shards import in_order


def merge(out: Path, files: Sequence[Path]) -> int:
    """Write a maps file that reads like that of a run of one process, whole or not at all.

    Args:
        out: The file; what is there is replaced.
        files: All shards of a run, in any order; or one file of a whole run, e.g. one that joins
            shards.

    Returns:
        Its rows.

    Raises:
        LcamError: A shard is missing, not finished, or one of another run; or the file cannot be
            written.
    """
    with ExitStack() as stack:
        shards = in_order([stack.enter_context(MapsFile(file)) for file in files])
        try:
            with atomic_file(out) as temporary, h5py.File(temporary, "w", locking=False) as new:
                old = [
                    stack.enter_context(h5py.File(shard.path, "r", locking=False))
                    for shard in shards
                ]
                copy_attributes(old[0], new, "shard", "created", FLAT_ROWS)
                copy_class_names(old[0], new)
                new.attrs[FLAT_ROWS] = sum(len(shard.find_flat_rows()) for shard in shards)
                new.attrs[FILE_ID] = new_id()
                new.attrs["created"] = min(shard.info.created for shard in shards)
                with_rows = [file for file in old if len(file["path"])] or old
                for column in dataset_names(with_rows[0]):
                    sources = with_rows if not column.startswith("skipped/") else old
                    copy_rows([file[column] for file in sources], new)
        except (OSError, RuntimeError) as error:  # h5py has both for a full disk
            needed = sum(file.stat().st_blocks * 512 for file in files)
            hint = "free some space or use another file"
            raise cannot_write(
                out, error, needed=f"up to {human_size(needed)}", hint=hint
            ) from error
        return sum(map(len, shards))
