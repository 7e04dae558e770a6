"""``merge_shards``: one plain maps file of the shards of a run. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lcam_cli.errors import LcamError
from lcam_cli.locks import lock_file
from lcam_cli.runs.checks import checked, path, paths
from lcam_cli.runs.targets import is_hdf5


def merge_shards(
    out: str | Path, shards: str | Path | Iterable[str | Path], *, overwrite: bool = False
) -> int:
    """Merge shards into a file that stands by itself, as ``lcam merge`` does; return its rows.

    Args:
        out: The file to write.
        shards: All shards of a run in any order, or one file that joins them.
        overwrite: Whether ``out`` may be replaced.

    Raises:
        LcamError: ``out`` is not a maps file's name, exists, or is being written by another run;
            a shard is missing, unfinished or of another run.
    """
    from lcam_cli.maps.hdf5.merging import merge  # noqa: PLC0415 (h5py)

    target, parts = checked("out", out, path), checked("shards", shards, paths)
    if not parts:
        raise LcamError("no shards to merge", "pass all shards of a run")
    if not is_hdf5(target):
        raise LcamError(f"{target} is not a name for a maps file", "pass one, e.g. maps.h5")
    with lock_file(target):
        if target.exists() and not overwrite:
            raise LcamError(f"{target} exists", "pass --overwrite or another name")
        return merge(target, parts)
