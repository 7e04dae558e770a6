"""Options that several commands share, as ``Annotated`` types for their signatures.

A command takes them as parameters (``quiet: Quiet = False``); their defaults are its own.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from lcam_cli.cli.settings import default_maps, find_settings
from lcam_cli.errors import LcamError
from lcam_cli.runs.named_results import format_of
from lcam_cli.runs.options import EngineOptions, PictureOptions
from lcam_cli.runs.targets import is_hdf5

# --- On every command -------------------------------------------------------------------------


@dataclass
class Flags:
    """The common options as given so far, before the command's name or after it."""

    quiet: bool = False
    debug: bool = False
    config: Path | None = None
    settings: Path | None = None
    """The settings file that was read, if any."""


def _quiet(ctx: typer.Context, value: bool) -> bool:
    flags = ctx.ensure_object(Flags)
    flags.quiet |= value
    return flags.quiet


def _debug(ctx: typer.Context, value: bool) -> bool:
    flags = ctx.ensure_object(Flags)
    flags.debug |= value
    return flags.debug


def _load_settings(ctx: typer.Context, value: Path | None) -> Path | None:
    """Read the settings file into click's ``default_map`` before other options are looked at."""
    flags = ctx.ensure_object(Flags)
    flags.config = value or flags.config
    if ctx.parent is None or ctx.resilient_parsing:  # before the command's name, or completing
        return value
    flags.settings = find_settings(flags.config)
    if flags.settings is not None:
        group = ctx.parent.command
        commands = {name: command.params for name, command in group.commands.items()}  # type: ignore[attr-defined]
        ctx.default_map = default_maps(flags.settings, commands).get(ctx.info_name or "")
    return flags.config


_SOURCES = ("DEFAULT", "DEFAULT_MAP", "ENVIRONMENT", "COMMANDLINE")
TYPED = _SOURCES.index("COMMANDLINE")
"""The strength of what stands on the command line."""


def strength(context: typer.Context, name: str) -> int:
    """Where a parameter's value comes from, the later the stronger.

    Returns:
        0 for the default, 1 for the settings file, 2 for the environment, 3 for the command line.
    """
    source = context.get_parameter_source(name)
    return _SOURCES.index(source.name) if source is not None and source.name in _SOURCES else 0


def is_given(context: typer.Context, name: str) -> bool:
    """Whether a parameter's value is no default."""
    return strength(context, name) > 0


# The variables named here are those before the command's name; a command has its own beside.
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        envvar="LCAM_QUIET",
        show_envvar=False,
        callback=_quiet,
        help="Print errors only.",
    ),
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        envvar="LCAM_DEBUG",
        show_envvar=False,
        callback=_debug,
        help="Show the traceback of an error.",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar="LCAM_CONFIG",
        show_envvar=False,
        # Eager, so that it is read before the options that it gives values to.
        is_eager=True,
        callback=_load_settings,
        show_default="lcam.toml",
        help="Read options from FILE.",
    ),
]


# --- The engine -------------------------------------------------------------------------------


def auto_or_positive(text: str) -> int | None:
    """Return None for ``auto``, otherwise a whole number of at least 1."""
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise typer.BadParameter(f"{text!r} is not 'auto' or a whole number from 1.")
    return int(text)


def percent(value: float | None) -> float | None:
    """Return a percentage in (0, 100], or None."""
    if value is not None and not 0 < value <= 100:
        raise typer.BadParameter(f"{value:g} is not above 0 and at most 100.")
    return value


def _device(value: str) -> str:
    kind, colon, index = value.partition(":")
    known = kind in ("auto", "cpu", "cuda", "mps")
    if not known or (colon and not (kind == "cuda" and index.isascii() and index.isdigit())):
        raise typer.BadParameter(f"{value!r} is not one of auto, cpu, cuda, cuda:N, mps.")
    return value


def _precision(value: str) -> str:
    if value not in ("auto", "fp32", "bf16", "fp16"):
        raise typer.BadParameter(f"{value!r} is not one of auto, fp32, bf16, fp16.")
    return value


Device = Annotated[
    str,
    typer.Option(
        metavar="auto|cpu|cuda|cuda:N|mps", callback=_device, help="Where the network runs."
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        metavar="auto|fp32|bf16|fp16",
        callback=_precision,
        help="Number format the network computes in.",
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        parser=auto_or_positive,
        metavar="auto|N",
        show_default="auto",
        help="Images per batch; halved when memory runs out.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        parser=auto_or_positive,
        metavar="auto|N",
        show_default="auto",
        help="Processes that read images.",
    ),
]
Seed = Annotated[
    int, typer.Option(min=0, max=2**63 - 1, metavar="N", help="Seed for everything random.")
]
_FIT = (
    "crop shows the network the centre of the image, as in the paper; squash shows all of it, "
    "distorted; pad shows all of it between black bars."
)
_MOSTLY_CROP = "that of the weights, usually crop"
Fit = Annotated[
    Literal["crop", "squash", "pad"] | None,
    typer.Option(show_default="that of the attention or the weights, usually crop", help=_FIT),
]
FitToTrain = Annotated[
    Literal["crop", "squash", "pad"] | None,
    typer.Option(show_default=_MOSTLY_CROP, help=f"{_FIT} The attention remembers it."),
]
Align = Annotated[
    bool,
    typer.Option(
        "--align/--no-align",
        show_default="align",
        help="Place each cell of a map where its receptive field lies; --no-align spreads the "
        "cells evenly, as papers do.",
    ),
]


def engine_options(params: Mapping[str, Any], **changes: Any) -> EngineOptions:
    """Return what a command's parameters say of the engine; see ``backbone_options``."""
    names = [field.name for field in dataclasses.fields(EngineOptions)]
    return EngineOptions(**({n: params[n] for n in names if n in params} | changes))


def picture_options(params: Mapping[str, Any]) -> PictureOptions:
    """Return what a command's parameters say of the images, which a person has typed."""
    from lcam_cli.images.find import read_path_list

    def listed() -> Iterable[str]:
        if sys.stdin is None:
            raise LcamError("stdin is closed, so it has no paths", "pipe the paths in, or remove -")
        return read_path_list(sys.stdin.buffer, params["null"])

    return PictureOptions(
        params["max_images"],
        params["strict"],
        listed=listed,
        run_commands=True,
    )


# --- Images -----------------------------------------------------------------------------------

MaxPixels = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        show_default="178956970",
        help="Skip images with more than N pixels.",
    ),
]
MaxImages = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Use only N images, drawn with --seed."),
]
Null = Annotated[
    bool,
    typer.Option("--null", "-0", help="Paths on stdin end in NUL, not in a line break."),
]

Strict = Annotated[
    bool, typer.Option("--strict", help="Stop at the first image that cannot be read.")
]


# --- Methods ----------------------------------------------------------------------------------


Contrast = Annotated[
    str | None,
    typer.Option(
        metavar="K[:ALPHA]",
        help="Explain what sets the class apart from the K classes nearest in score (Finer-CAM), "
        "e.g. 3 or 3:0.6.",
    ),
]
Fuse = Annotated[
    Literal["max", "mean", "product"] | None,
    typer.Option(
        show_default="max; product for refinecam",
        help="How maps of several layers become one.",
    ),
]


def parse_methods(values: list[str] | None) -> tuple[str, ...] | None:
    """Return the names in ``--methods``, each once; None where nothing was typed."""
    if not values:
        return None
    names = [word.strip() for item in values for word in item.split(",")]
    return tuple(dict.fromkeys(name for name in names if name))


# --- Results ---------------------------------------------------------------------------------


FORMATS = "FILE: *.json, *.csv, *.md, *.tex or *.txt says the format; - is stdout. Repeatable."
Out = Annotated[
    list[Path] | None,
    typer.Option(
        "--out",
        metavar="FILE|-",
        show_default="stdout",
        help=f"Where the result goes. {FORMATS}",
    ),
]


@dataclass(frozen=True)
class ResultTargets:
    """Where a command's result goes.

    Attributes:
        files: The files of ``--out``.
        file_format: What ``--format`` says of them; None where their names say it.
        shown: Whether the result goes to stdout too, or alone.
        shown_format: In which format.
    """

    files: tuple[Path, ...]
    file_format: Any
    shown: bool
    shown_format: str


def result_targets(context: typer.Context, *, maps: bool = False) -> ResultTargets:
    """Return what ``--out`` and ``--format`` ask for.

    Args:
        context: The command's.
        maps: Whether a file ``*.h5`` is no result, but for all maps.
    """
    typed: list[Path] = context.params["out"] or []
    asked: str | None = context.params["format_"]
    files = tuple(file for file in typed if str(file) != "-")
    results = [file for file in files if not (maps and is_hdf5(file))]
    shown = len(files) < len(typed) or not results
    file_format = None if shown else asked
    if strength(context, "format_") < strength(context, "out") and all(map(format_of, results)):
        file_format = None  # files named nearer by than the format say their own
    return ResultTargets(files, file_format, shown, asked or "table")


Report = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="DIR",
        help="Write an HTML report with the table, curves and every image; opens offline.",
    ),
]


# --- The same on several commands -------------------------------------------------------------


Images = Annotated[
    list[str] | None,
    typer.Argument(metavar="IMAGES", help="Image files, folders, or - for a list on stdin."),
]
ClassNames = Annotated[
    list[str] | None,
    typer.Option(
        "--class",
        metavar="NAME|INDEX",
        show_default="the predicted class",
        help="The class to explain. Repeatable.",
    ),
]
ResultFormat = Annotated[
    Literal["table", "json", "csv", "markdown", "latex"] | None,
    typer.Option(
        "--format", show_default="that of --out, else table", help="Format of the result."
    ),
]
RiseMasks = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        show_default="4000 or 8000, as the paper",
        help="Number of masks of rise.",
    ),
]
RiseCells = Annotated[int, typer.Option(min=1, metavar="N", help="Cells per side of rise's masks.")]
RiseP = Annotated[float, typer.Option(metavar="X", help="Share of cells that rise's masks keep.")]
Floor = Annotated[
    bool, typer.Option("--floor/--no-floor", help="Include random maps as the floor.")
]
AttentionRun = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE|DIR",
        show_default="the newest run",
        help="A trained attention, from lcam train.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing output.")]
ListFormat = Annotated[
    Literal["table", "json"], typer.Option("--format", help="Format of the result.")
]
