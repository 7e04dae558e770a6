"""Loading again the backbone that an attention or a maps file was made with.

Files come from strangers: what one says about a backbone is checked, not believed. Weights are
compared by SHA-256, and a backbone that is the user's own code is only imported where the user
names it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from lcam_cli.engine.backbone import Backbone, load_backbone
from lcam_cli.engine.identity import Identity
from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.networks.registry import names_a_file, runs_user_code
from lcam_cli.networks.weights.state_dicts import split_key
from lcam_cli.networks.wrappers import without_wrappers


@dataclass(frozen=True)
class Given:
    """What the user says about the backbone; None where they say nothing.

    Attributes:
        name: ``--backbone``.
        weights: ``--weights``.
        layer: ``--layer``.
        grid: ``--grid``.
        activation: ``--activation``.
        output: ``--output``.
    """

    name: str | None = None
    weights: str | None = None
    layer: str | None = None
    grid: str | None = None
    activation: str | None = None
    output: str | None = None


def recall_backbone(
    source: str,
    identity: Identity,
    given: Given,
    *,
    class_names: Sequence[str] | None,
    preprocess: Preprocess,
    redrawable: bool = False,
) -> Backbone:
    """Load the backbone that ``source`` was made with.

    Args:
        source: The file that tells of it, for messages.
        identity: What it says.
        given: What the user says beside it; it must not differ.
        class_names: What it says of the classes; None where it does not.
        preprocess: What it says of the preprocessing.
        redrawable: Whether its weights will be drawn anew.

    Raises:
        LcamError: The user names another backbone, the weights are gone or have changed, or the
            backbone is code that the user has not named.
    """
    name = identity.name
    if given.name is not None and _is_moved(identity.name, given.name):
        name = given.name
    for what, recorded, typed in (
        ("backbone", name, given.name),
        ("layer", identity.layer, given.layer and _plain(given.layer, identity.layer)),
        ("grid", identity.grid, given.grid),
        ("activation", identity.activation, _activation(identity, given)),
        ("output", identity.output, given.output),
    ):
        if typed is not None and typed != recorded:
            raise LcamError(
                f"{source} was made with {what} {recorded or 'found automatically'}, not {typed}",
                f"remove --{what}: the file has its own",
            )
    if runs_user_code(identity.name) and given.name is None:
        raise LcamError(
            f"{source} was made with {identity.name}, which is code",
            f"to run it, pass it yourself: --backbone {identity.name}",
        )
    backbone = load_backbone(
        name,
        _weights_of(source, identity, given),
        layer=identity.layer or None,
        grid=identity.grid,
        activation=identity.activation,
        output=identity.output,
        probabilities=identity.probabilities,
        classes=list(class_names) if class_names is not None else None,
        preprocess=preprocess,
        redrawable=redrawable,
    )
    if backbone.identity.weights != identity.weights:
        raise LcamError(
            f"{source} was made with weights {_short(identity.weights)}, "
            f"not {_short(backbone.identity.weights)} ({given.weights or identity.weights_file})",
            "pass the file of those weights: --weights FILE",
        )
    return backbone


def _is_moved(recorded: str, typed: str) -> bool:
    """Whether the user names the same file or folder by another path, as from another folder."""
    return names_a_file(recorded) and PurePath(recorded).name == PurePath(typed).name


def _plain(layer: str, known: str) -> str:
    """A layer's name as typed, or without wrappers' parts where that is the one that is known."""
    return known if without_wrappers(layer) == known else layer


def _activation(identity: Identity, given: Given) -> str | None:
    """What was typed; ``none`` says of outputs that are scores what the file says too."""
    same = given.activation == "none" and identity.probabilities
    return identity.activation if same else given.activation


def _weights_of(source: str, identity: Identity, given: Given) -> str:
    if given.weights is not None:
        return given.weights
    if not identity.weights.startswith("sha256:"):
        # Not a path: a file from a stranger does not choose what else is read.
        if not re.fullmatch(r"\w+(:seed=\d+)?", identity.weights):
            raise LcamError(
                f"{source} names weights {identity.weights!r}, which do not exist",
                "pass their file: --weights FILE",
            )
        return identity.weights
    if not identity.weights_file:
        if runs_user_code(identity.name):  # the function loads its own
            return "DEFAULT"
        raise LcamError(
            f"{source} does not say where its weights are ({_short(identity.weights)})",
            "pass their file: --weights FILE",
        )
    if not split_key(identity.weights_file)[0].is_file():
        raise LcamError(
            f"the weights {source} was made with are no longer at {identity.weights_file}",
            "pass their file: --weights FILE",
        )
    return identity.weights_file


def _short(weights: str) -> str:
    return weights[:19] + "…" if weights.startswith("sha256:") else weights
