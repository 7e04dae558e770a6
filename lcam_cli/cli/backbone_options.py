"""Options that say what the backbone is and how its images are prepared, for several commands.

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

from lcam_cli.cli import completion
from lcam_cli.runs.options import BackboneOptions


def parse_channels(text: str) -> float | tuple[float, ...]:
    """Return the numbers of ``"a,b,c"``, one a channel; the only one by itself."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(map(math.isfinite, numbers)):
        raise typer.BadParameter(
            f"{text!r} is not a number, or one per channel separated by commas (R,G,B)."
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
            f"{text!r} is not N or HxW, rows by columns in pixels (e.g. 224, or 180x320)."
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
            f"{text!r} is not auto or two values of a file, LOW,HIGH (e.g. 0,4095)."
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
    "The classifier: a torchvision name, timm/NAME, hf/ORG/NAME, a Hugging Face folder, "
    "FILE.onnx, FILE.pt2 (exported program), package.module:function, or file.py:function."
)
_WEIGHTS_OWN = "that of the weights"

Backbone = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        autocompletion=completion.backbone,
        show_default="that of the attention or maps file",
        help=_BACKBONE,
    ),
]
BackboneToTrain = Annotated[
    str | None, typer.Option(metavar="NAME", autocompletion=completion.backbone, help=_BACKBONE)
]
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="DEFAULT|none|FILE",
        show_default="that of the attention or maps file, else DEFAULT",
        help="Its weights: DEFAULT (pretrained), none (random), or a state dict (.pt, .pth, "
        ".safetensors). FILE#KEY picks one of several in a file.",
    ),
]
Layer = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        autocompletion=completion.layer,
        show_default="the last one with feature maps",
        help="The target layer: its feature maps are weighted.",
    ),
]
Layers = Annotated[
    list[str] | None,
    typer.Option(
        "--layer",
        metavar="NAME",
        autocompletion=completion.layer,
        show_default="the last one with feature maps",
        help="The target layer: its feature maps are weighted. Repeatable: the maps of several "
        "layers are fused.",
    ),
]
Grid = Annotated[
    str | None,
    typer.Option(
        metavar="PxQ",
        show_default="from the number of tokens",
        help="Rows and columns of a transformer's patch grid.",
    ),
]
Activation = Annotated[
    Literal["softmax", "sigmoid", "none"] | None,
    typer.Option(
        show_default="what the network ends with, else softmax",
        help="What turns logits into scores: sigmoid for several classes per image or a single "
        "logit; none if the network gives scores.",
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        metavar="KEY|INDEX",
        show_default="found, if there is only one",
        help="Which output holds the logits, if the network has several; a.b for nested ones.",
    ),
]
Classes = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        show_default="those of the attention or the weights, else numbers",
        help="Class names, one per line.",
    ),
]
Channels = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        show_default="that of the weights or of the first layer",
        help="Channels of the network's input. 1 turns colour into grey, 3 repeats grey; other "
        "numbers need images with that many.",
    ),
]
ImageSize = Annotated[
    str | None,
    typer.Option(
        metavar="N|HxW",
        callback=_checked(parse_image_size),
        show_default=_WEIGHTS_OWN,
        help="Input size in pixels: the side of a square, or HEIGHTxWIDTH, e.g. 180x320.",
    ),
]
Resize = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        show_default="that of the weights, scaled with --image-size",
        help="Resize the shorter side to N pixels before the crop.",
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        metavar="X|R,G,B",
        callback=_checked(parse_channels),
        show_default=_WEIGHTS_OWN,
        help="Subtracted from pixels in 0-1: one number, or one per channel.",
    ),
]
Std = Annotated[
    str | None,
    typer.Option(
        metavar="X|R,G,B",
        callback=_checked(parse_channels),
        show_default=_WEIGHTS_OWN,
        help="Pixels are then divided by this: one number, or one per channel.",
    ),
]
Window = Annotated[
    str | None,
    typer.Option(
        metavar="LOW,HIGH|auto",
        callback=_checked(parse_window),
        show_default="auto, the file's own, else the full range",
        help="Pixel values that become 0 and 1, e.g. 0,4095 for 12 bits; values outside are "
        "clipped.",
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


def own_backbone(params: Mapping[str, Any]) -> list[str]:
    """Return what has to be typed again for a network that no file can name for the user."""
    name = params.get("backbone")
    return ["--backbone", name] if name and ":" in name else []


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
