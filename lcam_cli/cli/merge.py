"""``lcam merge``: one plain maps file of the shards of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lcam_cli.cli import options as o
from lcam_cli.cli.console import Console
from lcam_cli.errors import LcamError


def merge(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(metavar="OUT.h5", help="The file to write.")],
    shards: Annotated[
        list[Path],
        typer.Argument(metavar="SHARDS", help="All shards of a run, in any order."),
    ],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.h5.")] = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    config: o.Config = None,
) -> None:
    """Merge the shards of a run into one maps file that stands by itself.

    SHARDS are what lcam explain --shard wrote, or one file that joins shards.
    """
    console = Console(quiet)
    from lcam_cli.locks import lock_file
    from lcam_cli.maps.hdf5.merging import merge as merge_files
    from lcam_cli.runs.outputs import is_hdf5

    if not is_hdf5(out):
        raise LcamError(f"{out} is no name for a maps file", "name one, e.g. maps.h5")
    context.with_resource(lock_file(out))
    if out.exists() and not overwrite:
        raise LcamError(f"{out} exists", "use --overwrite or another name")
    rows = merge_files(out, shards)
    console.result(f"{rows} maps in {out}")
