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
from lcam_cli.runs.options import BackboneOptions, EngineOptions, PictureOptions

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
        help="Say nothing but errors.",
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
        show_default="lcam.toml, if there",
        help="Read options from FILE, a section a command.",
    ),
]


# --- The engine -------------------------------------------------------------------------------


def auto_or_positive(text: str) -> int | None:
    """Return None for ``auto``, otherwise a whole number of at least 1."""
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise typer.BadParameter(f"{text!r} is neither 'auto' nor a whole number from 1.")
    return int(text)


def _device(value: str) -> str:
    kind, colon, index = value.partition(":")
    known = kind in ("auto", "cpu", "cuda", "mps")
    if not known or (colon and not (kind == "cuda" and index.isascii() and index.isdigit())):
        raise typer.BadParameter(f"{value!r} is none of auto, cpu, cuda, cuda:N, mps.")
    return value


def _precision(value: str) -> str:
    if value not in ("auto", "fp32", "bf16", "fp16"):
        raise typer.BadParameter(f"{value!r} is none of auto, fp32, bf16, fp16.")
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
        metavar="auto|fp32|bf16|fp16", callback=_precision, help="What the network computes in."
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        parser=auto_or_positive,
        metavar="auto|N",
        show_default="auto",
        help="Images in a batch; halved when memory runs out.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        parser=auto_or_positive,
        metavar="auto|N",
        show_default="auto",
        help="Processes that read pictures.",
    ),
]
Seed = Annotated[
    int, typer.Option(min=0, max=2**63 - 1, metavar="N", help="Seed of everything random.")
]
_FIT = "crop sees the centre, as in the paper; squash the whole picture, distorted."
_MOSTLY_CROP = "the weights' own, mostly crop"
Fit = Annotated[
    Literal["crop", "squash"] | None,
    typer.Option(show_default=f"an attention's own; else {_MOSTLY_CROP}", help=_FIT),
]
FitToTrain = Annotated[
    Literal["crop", "squash"] | None,
    typer.Option(
        show_default=_MOSTLY_CROP, help=f"{_FIT} What the attention explains is seen alike."
    ),
]
Align = Annotated[
    bool,
    typer.Option(
        "--align/--no-align",
        show_default="align",
        help="Place maps by the receptive fields of their cells, or tile the picture evenly, as "
        "papers do.",
    ),
]


# --- The backbone -----------------------------------------------------------------------------


def parse_triple(text: str) -> tuple[float, float, float]:
    """Return the three numbers of ``"a,b,c"``, one a colour channel (red, green, blue)."""
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not three numbers with commas between, one a channel (R,G,B)."
        ) from None
    return red, green, blue


def _check_triple(value: str | None) -> str | None:
    if value is not None:
        parse_triple(value)
    return value


_BACKBONE = (
    "The classifier: torchvision's name, timm/NAME, an exported program FILE.pt2, "
    "package.module:function, or file.py:function."
)
_WEIGHTS_OWN = "the weights' own"

Backbone = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", show_default="an attention's or a maps file's own", help=_BACKBONE
    ),
]
BackboneToTrain = Annotated[str | None, typer.Option(metavar="NAME", help=_BACKBONE)]
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="DEFAULT|none|FILE",
        show_default="DEFAULT, a download; with an attention or a maps file, its own",
        help="Its weights: those it is known with, random ones, or a state dict (.pt, .pth, "
        ".safetensors). FILE#KEY takes one of several in a file.",
    ),
]
Layer = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        show_default="the last one that gives feature maps",
        help="The layer whose feature maps are weighed.",
    ),
]
Grid = Annotated[
    str | None,
    typer.Option(
        metavar="PxQ",
        show_default="from the number of tokens",
        help="Rows and columns of a transformer's patches.",
    ),
]
Activation = Annotated[
    Literal["softmax", "sigmoid", "none"] | None,
    typer.Option(
        show_default="softmax, or what the network ends with",
        help="What turns logits into scores: sigmoid for several classes a picture, or one logit; "
        "none where the network gives scores.",
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        metavar="KEY|INDEX",
        show_default="logits, or the only one that can be them",
        help="Which of a network's several outputs are the logits; dots between where nested.",
    ),
]
Classes = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        show_default="an attention's own; ImageNet's for torchvision's and timm's 1000; "
        "else numbers",
        help="The classes' names, one a line.",
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        show_default=_WEIGHTS_OWN,
        help="Side of the network's input, in pixels.",
    ),
]
Resize = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        show_default="the weights' own, in proportion to --image-size",
        help="Shorter side before the crop, in pixels.",
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        metavar="R,G,B",
        callback=_check_triple,
        show_default=_WEIGHTS_OWN,
        help="Mean of the colours, taken off pixels in 0-1.",
    ),
]
Std = Annotated[
    str | None,
    typer.Option(
        metavar="R,G,B",
        callback=_check_triple,
        show_default=_WEIGHTS_OWN,
        help="Spread of the colours, divided by after.",
    ),
]


def backbone_options(params: Mapping[str, Any], **changes: Any) -> BackboneOptions:
    """Return what a command's parameters say of the backbone.

    Args:
        params: The parameters by name (``context.params``); a command may lack some.
        changes: Values that stand for those of the parameters.
    """
    names = [field.name for field in dataclasses.fields(BackboneOptions)]
    given: dict[str, Any] = {name: params.get(name) for name in names} | changes
    # Typer turns text into paths in the command's own arguments, not in the context's parameters.
    given["classes"] = None if given["classes"] is None else Path(given["classes"])
    for name in ("mean", "std"):
        given[name] = None if given[name] is None else parse_triple(given[name])
    return BackboneOptions(**given)


def engine_options(params: Mapping[str, Any], **changes: Any) -> EngineOptions:
    """Return what a command's parameters say of the engine; see :func:`backbone_options`."""
    names = [field.name for field in dataclasses.fields(EngineOptions)]
    return EngineOptions(**({n: params[n] for n in names if n in params} | changes))


def picture_options(params: Mapping[str, Any]) -> PictureOptions:
    """Return what a command's parameters say of the pictures, which a person has typed."""
    from lcam_cli.images.find import read_path_list

    def listed() -> Iterable[str]:
        if sys.stdin is None:
            raise LcamError("stdin is closed: it gives no paths", "pipe them in, or leave - out")
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
        help="Refuse a picture of more pixels than this.",
    ),
]
MaxImages = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Take N of the pictures, by the seed.")
]
Null = Annotated[
    bool,
    typer.Option("--null", "-0", help="Paths on stdin end in NUL instead of a line break."),
]

Strict = Annotated[
    bool, typer.Option("--strict", help="Stop at the first picture that cannot be read.")
]


# --- Methods ----------------------------------------------------------------------------------


def parse_methods(values: list[str] | None) -> tuple[str, ...] | None:
    """Return the names in ``--methods``, each once; None where nothing was typed."""
    if not values:
        return None
    names = [word.strip() for item in values for word in item.split(",")]
    return tuple(dict.fromkeys(name for name in names if name))


# --- Results ---------------------------------------------------------------------------------


Report = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="DIR",
        help="Write a page with the table, curves and every picture; opens offline.",
    ),
]
