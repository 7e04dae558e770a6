"""What a shell offers for the values of options. Nothing here imports torch where a name will do.

A shell waits for it after every press of Tab. Where something goes wrong, nothing is offered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import typer

from lcam_cli.measures.registry import MEASURES
from lcam_cli.methods.families import GROUPS
from lcam_cli.methods.names import METHOD_NAMES
from lcam_cli.networks.names import DEMO_NAMES, torchvision_names

Complete = Callable[[typer.Context, str], list[str]]

_NETWORK_FILES = (".onnx", ".pt2", ".py")


def _offered(names: Callable[[typer.Context], Iterable[str]]) -> Complete:
    """Offer the names that begin as typed."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        try:
            return [name for name in names(ctx) if name.startswith(incomplete)]
        except Exception:
            return []

    return complete


def _in_lists(names: Callable[[], Iterable[str]]) -> Complete:
    """Offer the names for the last word of a list with commas between."""

    def complete(_: typer.Context, incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        there = before.split(",")
        return [
            f"{before}{comma}{name}"
            for name in names()
            if name.startswith(last) and name not in there
        ]

    return complete


def _backbones(_: Any) -> list[str]:
    files = sorted(str(path) for path in Path().iterdir() if path.suffix in _NETWORK_FILES)
    return [*DEMO_NAMES, *torchvision_names(), *files]


def _layers(ctx: typer.Context) -> list[str]:
    """The layers of the backbone that is typed before, if it is one of torchvision's."""
    name = ctx.params.get("backbone")
    if name not in torchvision_names():
        return []
    import torch
    import torchvision

    with torch.device("meta"):
        network = torchvision.models.get_model(name, weights=None)
    return [layer for layer, _ in network.named_modules() if layer]


def _colormaps(_: Any) -> list[str]:
    from matplotlib import colormaps

    return sorted(colormaps)


method = _offered(lambda _: METHOD_NAMES)
methods = _in_lists(lambda: [*METHOD_NAMES, *GROUPS])
metrics = _in_lists(lambda: [*MEASURES, "all"])
backbone = _offered(_backbones)
layer = _offered(_layers)
colormap = _offered(_colormaps)
