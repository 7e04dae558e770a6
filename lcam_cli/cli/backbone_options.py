"""Options that say what the backbone is and how its pictures are prepared, for several commands.

A command takes them as parameters, as it does those of ``options``.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from lcam_cli.runs.options import BackboneOptions


def parse_channels(text: str) -> float | tuple[float, ...]:
    """Return the numbers of ``"a,b,c"``, one a channel; the only one by itself."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(map(math.isfinite, numbers)):
        raise typer.BadParameter(
            f"{text!r} is neither a number nor one a channel with commas between (R,G,B)."
        )
    return numbers if len(numbers) > 1 else numbers[0]


_SIZE = re.compile(r"\s*([0-9]{1,9})(?:\s*[xX×*,;]\s*([0-9]{1,9}))?\s*(?:px)?\s*", re.ASCII)


def parse_image_size(text: str) -> int | tuple[int, int]:
    """Return the side of ``"N"``, or rows and columns of ``"HxW"``.

    Other signs between the two are understood too, as lists in a settings file have commas.
    """
    match = _SIZE.fullmatch(text)
    sides = [int(side) for side in match.groups() if side is not None] if match else []
    if not sides or min(sides) < 1:
        raise typer.BadParameter(
            f"{text!r} is neither N nor HxW, rows by columns in pixels (e.g. 224, or 180x320)."
        )
    return sides[0] if len(set(sides)) == 1 else (sides[0], sides[1])


def parse_window(text: str) -> Literal["auto"] | tuple[float, float]:
    """Return the two values of ``"LOW,HIGH"``, or ``auto``."""
    if text.strip() == "auto":
        return "auto"
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither auto nor two values of a file, LOW,HIGH (e.g. 0,4095)."
        ) from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise typer.BadParameter(f"{text!r}: LOW must be below HIGH, and both finite.")
    return low, high


def _checked(parse: Callable[[str], object]) -> Callable[[str | None], str | None]:
    """A callback that has a parser refuse what it does not take; the text stays as it is."""

    def check(value: str | None) -> str | None:
        if value is not None:
            parse(value)
        return value

    return check


_BACKBONE = (
    "The classifier: torchvision's name, timm/NAME, hf/ORG/NAME or a Hugging Face folder, "
    "FILE.onnx, an exported program FILE.pt2, package.module:function, or file.py:function."
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
Layers = Annotated[
    list[str] | None,
    typer.Option(
        "--layer",
        metavar="NAME",
        show_default="the last one that gives feature maps",
        help="The layer whose feature maps are weighed. Repeatable: maps of several are fused.",
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
Channels = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        show_default="the weights' own, or what the network's first layer takes",
        help="Channels of the network's input: 1 takes colour as luminance, 3 grey three times; "
        "others need pictures of as many.",
    ),
]
ImageSize = Annotated[
    str | None,
    typer.Option(
        metavar="N|HxW",
        callback=_checked(parse_image_size),
        show_default=_WEIGHTS_OWN,
        help="Size of the network's input, in pixels: the side of a square, or rows by columns, "
        "e.g. 180x320.",
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
        metavar="X|R,G,B",
        callback=_checked(parse_channels),
        show_default=_WEIGHTS_OWN,
        help="Mean of the channels, subtracted from pixels in 0-1: one number, or one each.",
    ),
]
Std = Annotated[
    str | None,
    typer.Option(
        metavar="X|R,G,B",
        callback=_checked(parse_channels),
        show_default=_WEIGHTS_OWN,
        help="Standard deviation of the channels, which the difference is divided by.",
    ),
]
Window = Annotated[
    str | None,
    typer.Option(
        metavar="LOW,HIGH|auto",
        callback=_checked(parse_window),
        show_default="auto: the file's own, else its type's whole range",
        help="Values of a file that become 0 and 1, e.g. 0,4095 for 12 bits; others are clipped.",
    ),
]


_PARSERS: dict[str, Callable[[str], object]] = {
    "image_size": parse_image_size,
    "mean": parse_channels,
    "std": parse_channels,
    "window": parse_window,
}


def several_layers(layers: Sequence[str] | None) -> tuple[str, ...]:
    """Return the layers whose maps are fused: those typed, where there are several."""
    return tuple(layers) if layers and len(layers) > 1 else ()


def backbone_options(params: Mapping[str, Any], **changes: Any) -> BackboneOptions:
    """Return what a command's parameters say of the backbone.

    Args:
        params: The parameters by name (``context.params``); a command may lack some.
        changes: Values that stand for those of the parameters.
    """
    names = [field.name for field in dataclasses.fields(BackboneOptions)]
    given: dict[str, Any] = {name: params.get(name) for name in names} | changes
    if not isinstance(given["layer"], str | None):  # of several, the last is the target layer
        given["layer"] = next(reversed(given["layer"]), None)
    # Typer turns text into paths in the command's own arguments, not in the context's parameters.
    given["classes"] = None if given["classes"] is None else Path(given["classes"])
    for name, parse in _PARSERS.items():
        given[name] = None if given[name] is None else parse(given[name])
    return BackboneOptions(**given)
