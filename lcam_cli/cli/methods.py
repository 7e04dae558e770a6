"""``lcam methods``: which methods there are, and which can explain a network."""

from __future__ import annotations

from typing import Literal

import typer

from lcam_cli.cli import backbone_options as b
from lcam_cli.cli import options as o
from lcam_cli.cli.console import Console
from lcam_cli.errors import LcamError
from lcam_cli.runs.methods import list_methods
from lcam_cli.runs.methods_options import MethodsOptions

_OF_NO_NETWORK = {"format_", "quiet", "debug", "config"}


def methods(
    context: typer.Context,
    attention: o.AttentionRun = None,
    format_: o.ListFormat = "table",
    fit: o.Fit = None,
    backbone: b.Backbone = None,
    weights: b.Weights = None,
    layer: b.Layers = None,
    contrast: o.Contrast = None,
    fuse: o.Fuse = None,
    grid: b.Grid = None,
    activation: b.Activation = None,
    output: b.Output = None,
    classes: b.Classes = None,
    channels: b.Channels = None,
    image_size: b.ImageSize = None,
    resize: b.Resize = None,
    mean: b.Mean = None,
    std: b.Std = None,
    window: b.Window = None,
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    batch_size: o.BatchSize = None,
    seed: o.Seed = 0,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    config: o.Config = None,
) -> None:
    """List the methods, and which of them to use for a network.

    With --backbone, the list says which methods can explain it, how long a map takes here, and
    which one to use. The network's passes are timed on noise for about a second; the times of maps
    are derived from them.
    """
    options = MethodsOptions(
        attention=attention,
        contrast=contrast,
        layers=b.several_layers(layer),
        fuse=fuse,
        seed=seed,
        backbone=b.backbone_options(context.params),
        engine=o.engine_options(context.params),
    )
    typed = [name for name in context.params if o.strength(context, name) == o.TYPED]
    if not options.of_a_network and not {*typed} <= _OF_NO_NETWORK:
        raise LcamError("no backbone named", "pass one, e.g. --backbone resnet50")
    show_methods(options, format_, Console(quiet))


def show_methods(
    options: MethodsOptions, format_: Literal["table", "json"], console: Console
) -> None:
    """Write the list to stdout, as ``explain --list-methods`` does too."""
    found = list_methods(options, reporter=console)
    from lcam_cli.reports.methods import to_json, to_text

    console.result(to_json(found) if format_ == "json" else to_text(found, console.width))
