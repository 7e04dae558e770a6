"""``lcam merge``: one plain maps file of the shards of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lcam_cli.cli import options as o
from lcam_cli.cli.console import Console
from lcam_cli.runs.merge import merge_shards


def merge(
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
    """Merge the shards of a run into one maps file.

    SHARDS are the files that lcam explain --shard wrote, or one file that joins them.
    """
    rows = merge_shards(out, shards, overwrite=overwrite)
    Console(quiet).result(f"{rows} maps in {out}")
