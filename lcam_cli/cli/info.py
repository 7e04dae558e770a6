"""``lcam info``: what is installed, and what a file holds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lcam_cli.cli import options as o
from lcam_cli.cli.console import Console
from lcam_cli.errors import LcamError
from lcam_cli.reports.text import printable
from lcam_cli.runs.info import about_file, about_installation

_LONG = ("candidates", "random")
"""Numbers of a training that only JSON has: they would fill the screen."""


def info(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="A maps file, an attention, a run or a checkpoint."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The method, in a maps file of several methods."),
    ] = None,
    format_: o.ListFormat = "table",
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    config: o.Config = None,
) -> None:
    """Show versions and devices, or what a file holds.

    Without FILE: versions, devices and extras. With FILE, a maps file, an attention, a run or a
    checkpoint: what it holds. Nothing in it is executed.
    """
    if file is None and method is not None:
        raise LcamError("--method names the maps of a file", "name the file: lcam info maps.h5")
    facts = about_installation() if file is None else about_file(file, method)
    text = (
        json.dumps(facts, indent=2, allow_nan=False)
        if format_ == "json"
        else "\n".join(_lines(facts))
    )
    Console(quiet).result(text)


def _lines(facts: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """One line per fact, with its parts indented below it. Unknown facts are left out."""
    for name, value in facts.items():
        if name in _LONG:
            continue
        if isinstance(value, Mapping) and value:
            yield f"{indent}{printable(name)}:"
            yield from _lines(value, indent + "  ")
        elif indent or value not in (None, {}, []):
            yield f"{indent}{printable(name)}: {_words(value)}"


def _words(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        return ", ".join(_words(one) for one in value) or "none"
    return printable(str(value))
