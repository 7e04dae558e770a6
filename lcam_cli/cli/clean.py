"""``lcam clean``: remove what comparisons have kept to be resumed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from lcam_cli.cli import options as o
from lcam_cli.cli.console import Console
from lcam_cli.errors import plural
from lcam_cli.measures.kept_comparisons import beyond, kept_comparisons, remove_comparison
from lcam_cli.runs.compare_options import DEFAULT_STATE


def clean(
    state: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder of the comparisons, as lcam compare --state."),
    ] = DEFAULT_STATE,
    keep: Annotated[
        float,
        typer.Option(min=0, metavar="GB", help="Keep the newest, up to this size."),
    ] = 0,
    yes: Annotated[
        bool, typer.Option("--yes", help="Delete them. Without it, they are only listed.")
    ] = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    config: o.Config = None,
) -> None:
    """Delete what comparisons keep for --resume.

    Without --yes, it only lists them. It deletes only folders that hold nothing but what lcam
    compare wrote. Reports, maps and trained attentions stay.
    """
    console = Console(quiet)
    kept, others = kept_comparisons(state)
    going = beyond(kept, keep * 1e9)
    for one in going:
        if yes and not remove_comparison(one):
            console.warn(
                f"{one.folder} stays: a comparison is at work there, or it cannot be deleted"
            )
            going = [other for other in going if other is not one]
    for other in others:
        console.info(f"{other} stays: lcam compare did not write all of it")
    if not going:
        console.result(f"there is nothing to delete in {state}")
        return
    verb = "deleted" if yes else "would be deleted"
    for one in going:
        age = max(0, time.time() - one.written) / 86400
        console.result(f"{_size(one.size)}  {plural(round(age), 'day')} old  {one.folder}")
    total = _size(sum(one.size for one in going))
    console.result(f"{plural(len(going), 'comparison')}, {total} {verb} from {state}")
    if not yes:
        console.info("add --yes to delete them")


def _size(count: int) -> str:
    """Bytes in the unit that suits."""
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{size:.0f} {units[0]}" if size >= 10 or units[0] == "B" else f"{size:.1f} {units[0]}"
