"""From options, or from what a file says, to a backbone. Imports torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from torch.random import fork_rng

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.channels import Channels
from lcam_cli.engine.identity import Identity
from lcam_cli.engine.recall import Given
from lcam_cli.engine.tokens import parse_grid
from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.methods.attention_file import holds_trained_head, load_attention
from lcam_cli.methods.recall import recall_classifier
from lcam_cli.networks.class_names import read_class_names
from lcam_cli.networks.network import of_size
from lcam_cli.networks.registry import load_network
from lcam_cli.runs.options import BackboneOptions


def given_of(options: BackboneOptions) -> Given:
    """Return what the options say about the network."""
    return Given(
        options.backbone,
        options.weights,
        options.layer,
        options.grid,
        options.activation,
        options.output,
    )


def preprocess_of(options: BackboneOptions, own: Preprocess) -> Preprocess:
    """Return the weights' own preprocessing, with what the options say in its place.

    What they say of channels and their normalisation is :func:`channels_of`.
    """
    if options.image_size is not None:
        # Another input size alone keeps the share of the image that the crop shows.
        own = of_size(own, options.image_size)
    wanted = {"resize": options.resize, "fit": options.fit, "window": options.window}
    changes = {name: value for name, value in wanted.items() if value is not None}
    return dataclasses.replace(own, **changes)  # type: ignore[arg-type]


def channels_of(options: BackboneOptions) -> Channels:
    """Return what the options say of the images' channels."""
    return Channels(options.channels, options.mean, options.std)


def says_other_preprocessing(options: BackboneOptions, own: Preprocess) -> bool:
    """Whether the options contradict what a file brings.

    Raises:
        LcamError: They ask for what no preprocessing can be.
    """
    channels = channels_of(options)
    count = options.channels or own.channels
    return channels.applied_to(preprocess_of(options, own), count, "the file") != own


def new_backbone(options: BackboneOptions, seed: int, *, redrawable: bool = False) -> Backbone:
    """Load the backbone that the options name; ``--weights`` may be a run with a trained head.

    Args:
        options: What names it.
        seed: Of random weights.
        redrawable: Whether its weights will be drawn anew.

    Raises:
        LcamError: They name none, or one that cannot be loaded.
    """
    if options.weights is not None and holds_trained_head(Path(options.weights)):
        settings = load_attention(Path(options.weights)).settings
        assert settings is not None
        return backbone_of_file(
            options.weights,
            settings.identity,
            options,
            class_names=settings.class_names,
            preprocess=settings.preprocess,
            redrawable=redrawable,
        )
    if options.backbone is None:
        raise LcamError(
            "no backbone named", "pass one, e.g. --backbone resnet50, or set it in lcam.toml"
        )
    if options.grid is not None:
        parse_grid(options.grid)  # before weights are loaded
    with fork_rng(devices=[]):  # building a network may draw from the caller's random numbers
        network = load_network(options.backbone, options.weights or "DEFAULT", seed=seed)
    network.preprocess = preprocess_of(options, network.preprocess)
    if options.classes is not None:
        network.class_names = read_class_names(options.classes)
    return Backbone(
        network,
        options.layer,
        grid=options.grid or "",
        activation=options.activation,
        output=options.output or "",
        channels=channels_of(options),
        redrawable=redrawable,
    )


def backbone_of_file(
    source: str,
    identity: Identity,
    options: BackboneOptions,
    *,
    class_names: list[str] | None,
    preprocess: Preprocess,
    redrawable: bool = False,
) -> Backbone:
    """Load the backbone that an attention or a maps file was made with.

    Raises:
        LcamError: An option says other than the file.
    """
    # How an image fits into the input is the user's choice every time.
    wanted = dataclasses.replace(preprocess, fit=options.fit or preprocess.fit)
    if says_other_preprocessing(options, wanted):
        raise LcamError(
            f"{source} includes its own preprocessing",
            "remove --image-size, --channels, --resize, --mean, --std and --window",
        )
    if options.classes is not None:
        names = read_class_names(options.classes)
        if class_names is not None and names != class_names:
            raise LcamError(
                f"{source} has other class names than {options.classes}", "remove --classes"
            )
        class_names = names
    with fork_rng(devices=[]):  # as above
        return recall_classifier(
            source,
            identity,
            given_of(options),
            class_names=class_names,
            preprocess=wanted,
            redrawable=redrawable,
        )
