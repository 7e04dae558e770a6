"""How long the passes take that methods are made of, measured in about a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lcam_cli.engine.attention_matrices import AttentionMatrices
from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.engine.gradients import gradients_of_logits
from lcam_cli.engine.picture_gradients import picture_gradients

_SECONDS = 0.15
"""How long a pass may take on a CPU: so many images are taken, up to the engine's batch."""

_LONG = 0.5
"""A pass of one image that takes longer runs once."""


@dataclass(frozen=True)
class PassTimes:
    """Seconds an image of each kind of pass; None where the network has none.

    Attributes:
        forward: The whole network, keeping A.
        head: What follows the target layer, on changed copies of A; where the network cannot be cut
            there, all of it.
        head_backward: The head and its gradient at A.
        backward: The whole network and its gradient at the image.
        attention: The whole network, its attention computed step by step and kept.
        attention_backward: The same, and the gradients of all its attention.
    """

    forward: float
    head: float | None = None
    head_backward: float | None = None
    backward: float | None = None
    attention: float | None = None
    attention_backward: float | None = None


def measure_passes(engine: Engine, *, attention: bool = False) -> PassTimes:
    """Run the passes that this network can do, on noise.

    Args:
        engine: The engine with the classifier.
        attention: Whether its attention is seen.

    Raises:
        LcamError: The network fails.
    """
    backbone = engine.backbone
    noise = torch.rand(
        1, *backbone.preprocess.input_shape, generator=torch.Generator().manual_seed(0)
    )
    forward = engine.forward(noise.to(engine.device))

    def copies(count: int) -> Forward:
        return forward.only(torch.zeros(count, dtype=torch.int64, device=engine.device))

    def pictures(count: int) -> Tensor:
        return copies(count).x.contiguous(memory_format=backbone.memory_format)

    @torch.no_grad()
    def head(count: int) -> object:
        changed = copies(count)
        changed.A.mul_(0.5)
        return engine.run(lambda A, *around: engine.head(A, around), changed.A, *changed.around)

    def head_backward(count: int) -> object:
        some = copies(count)
        return engine.feature_gradients(some, some.predicted)

    def backward(count: int) -> object:
        x = pictures(count)
        return picture_gradients(engine, x, forward.predicted.expand(count))

    def with_attention(count: int) -> object:
        return engine.run(lambda x: _attention(engine, x), pictures(count))

    def with_gradients(count: int) -> object:
        return engine.run(lambda x: _attention_gradients(engine, x), pictures(count))

    def measured(run: Callable[[int], object], there: bool) -> float | None:
        return _seconds_a_picture(run, engine) if there else None

    has_gradients = backbone.has_layer and backbone.differentiable
    return PassTimes(
        _seconds_a_picture(lambda count: engine.forward(pictures(count)), engine),
        measured(head, backbone.has_layer),
        measured(head_backward, has_gradients),
        measured(backward, not backbone.picture_gradients_end),
        measured(with_attention, attention),
        measured(with_gradients, attention and has_gradients),
    )


def _seconds_a_picture(run: Callable[[int], object], engine: Engine) -> float:
    """How long a pass takes on as many images as the time allows, the fastest of some.

    The first pass of its kind also makes everything ready, so that it counts only where it is long.
    """
    count, seconds = 1, _seconds(run, 1, engine)
    if seconds < _LONG:
        seconds = _seconds(run, 1, engine)
        fits = int(_SECONDS / seconds) if engine.device.type == "cpu" else engine.batch_size
        count = max(1, min(engine.batch_size, fits))
    if count > 1:
        _seconds(run, count, engine)
        found = [_seconds(run, count, engine)]
        while sum(found) < _SECONDS / 2:
            found.append(_seconds(run, count, engine))
        seconds = min(found)
    return seconds / count


def _seconds(run: Callable[[int], object], count: int, engine: Engine) -> float:
    _wait(engine.device)
    began = time.perf_counter()
    run(count)
    _wait(engine.device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@torch.no_grad()
def _attention(engine: Engine, x: Tensor) -> Tensor:
    with AttentionMatrices():
        return engine.backbone(engine.normalise(x))


@torch.enable_grad()
def _attention_gradients(engine: Engine, x: Tensor) -> Tensor:
    with AttentionMatrices() as matrices:
        logits = engine.logits_with_gradients(x)
    gradients_of_logits(logits, matrices.kept)  # of networks that have them: else no method asks
    return logits.detach()
