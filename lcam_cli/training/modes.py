"""The modes of ``lcam train``: what each learns, and what it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.no_gradients import no_gradients
from lcam_cli.errors import LcamError, did_you_mean
from lcam_cli.methods.bounded_logit import Kind
from lcam_cli.methods.registry import which_explain
from lcam_cli.networks.foreign import ForeignNetwork
from lcam_cli.training import amg, bounded_logit, tame, trained_head
from lcam_cli.training.learned import LearnedModule
from lcam_cli.training.rows import Rows
from lcam_cli.training.settings import TrainingSettings
from lcam_cli.training.start import StartingData, start_rows


@dataclass(frozen=True)
class TrainingMode:
    """What a mode learns, and what it needs. Its recipe is in ``recipes.OWN_RECIPES``.

    Attributes:
        start: Makes what is trained, as it is before the first step.
        gradients: How far back the loss goes through the frozen network: to the image, through
            the head to the target layer, or not into it at all.
        single_process: Why ranks together would not learn what one process does; empty where they
            do.
        layers: Which layers it looks at where the user names none; None for the target layer alone.
    """

    start: Callable[[StartingData], Rows | LearnedModule]
    gradients: Literal["picture", "head", "none"]
    single_process: str = ""
    layers: Callable[[Backbone], tuple[str, ...]] | None = None


def _positions(kind: Kind) -> Callable[[StartingData], LearnedModule]:
    return lambda data: bounded_logit.start(kind, data.features(), data.settings.seed)


def _head(kind: trained_head.HeadKind) -> Callable[[StartingData], LearnedModule]:
    return lambda data: trained_head.start(
        kind, data.engine.backbone, data.features(), data.settings.seed
    )


MODES: dict[str, TrainingMode] = {
    "img": TrainingMode(start_rows, "picture"),
    "fm": TrainingMode(start_rows, "head"),
    "bla": TrainingMode(_positions("bla"), "head"),
    "bla-head": TrainingMode(_head("bla-head"), "none"),
    "bla-t-head": TrainingMode(_head("bla-t-head"), "none"),
    "l2x-f": TrainingMode(
        _positions("l2x-f"),
        "head",
        single_process="the positions that it draws would differ from those of one process",
    ),
    "amg": TrainingMode(amg.start, "picture"),
    "tame": TrainingMode(
        tame.start,
        "picture",
        single_process="its batch norm would see only one rank's part of the batch",
        layers=tame.default_layers,
    ),
}


def find_mode(name: str) -> TrainingMode:
    """Find a mode by its name.

    Raises:
        LcamError: There is none of that name.
    """
    if name not in MODES:
        raise LcamError(
            f"unknown mode {name!r}",
            f"{did_you_mean(name, [*MODES])} The modes are {', '.join(MODES)}.".strip(),
        )
    return MODES[name]


def fit_settings(settings: TrainingSettings, backbone: Backbone, pictures: int) -> TrainingSettings:
    """The settings for so many images and this network."""
    mode, recipe = find_mode(settings.mode), settings.recipe.fitted(pictures)
    layers = settings.layers or (mode.layers(backbone) if mode.layers else ())
    return replace(settings, recipe=recipe, layers=layers)


def check_gradients(backbone: Backbone, mode: str) -> None:
    """Check that the loss of a mode can reach what is trained.

    Raises:
        LcamError: The network has no gradients on that way.
    """
    needed = find_mode(mode).gradients
    if needed == "none" and not isinstance(backbone.network, ForeignNetwork):
        return
    who, instead = f"training in mode {mode}", "explain it without training"
    if not backbone.differentiable:
        raise no_gradients(backbone, who, f"{instead}: {which_explain(backbone)}")
    if needed == "picture" and backbone.picture_gradients_end:
        fm = "--mode fm needs them only after the layer"
        hint = f"{fm}; or {instead}: {which_explain(backbone)}"
        raise no_gradients(backbone, who, hint, picture=True)


@contextmanager
def caller_random_state() -> Iterator[None]:
    """Give torch's random state back as it was; a run seeds it, and its steps draw from it."""
    has_gpus = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    gpus = range(torch.cuda.device_count()) if has_gpus else ()
    with torch.random.fork_rng(gpus):
        yield


def start(data: StartingData) -> Rows | LearnedModule:
    """Begin a run: make what is trained, and set the random state that its steps begin with.

    Raises:
        LcamError: No image can be read or has scores that are numbers, or the mode does not go
            with the network.
    """
    settings = data.settings
    if settings.recipe.dropout:
        set_dropout(data.engine.backbone.network, active=True)
    torch.manual_seed(settings.seed)  # for chance inside a step: dropout, sampling
    return find_mode(settings.mode).start(data)


def set_dropout(network: nn.Module, *, active: bool) -> None:
    """Have a network's dropout drop, or not."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.train(active)
