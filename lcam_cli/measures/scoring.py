"""The scores that measures want of a batch of maps, and the numbers that they make of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from lcam_cli.errors import LcamError
from lcam_cli.measures.measure import MapScores, Measure, Perturbation, Quantity
from lcam_cli.measures.view import MapView
from lcam_cli.methods.lent import unchanged, unwritten
from lcam_cli.plugins import RUNNING, TELL, is_own, plugin_code


class MeasureError(LcamError):
    """A measure of another package fails. No method is to blame, and the run ends."""


def score_maps(
    view: MapView, wanted: Sequence[Quantity], also: Sequence[Perturbation] = ()
) -> MapScores:
    """Score what measures want scored, and ``also`` some: each once, whoever asks for it.

    Raises:
        MeasureError: What a measure of another package wants scored fails.
    """
    asked: dict[Perturbation, Measure | None] = dict.fromkeys(also)
    for quantity in wanted:
        with _code_of(quantity.measure, view.tensors()):
            for one in quantity.perturbations:
                asked.setdefault(one, quantity.measure)
    perturbed = {one: _scores(one, measure, view) for one, measure in asked.items()}
    return MapScores(view.V, view.full, perturbed, view.objects)


def numbers_of(wanted: Sequence[Quantity], scores: MapScores) -> Tensor:
    """Make the numbers of scored maps.

    Args:
        wanted: K quantities.
        scores: Of B maps.

    Returns:
        float32 (J, B), a row a part of each quantity; NaN where a measure is not defined, or gives
        no finite number.

    Raises:
        MeasureError: A measure of another package fails, or does not give a number a map.
    """
    B = len(scores.full)
    return torch.cat([_numbers(quantity, scores).view(-1, B) for quantity in wanted])


def _scores(one: Perturbation, measure: Measure | None, view: MapView) -> Tensor:
    if measure is None or is_own(one):
        return one.scores(view)
    network = view.batch.engine.backbone.network
    with _code_of(measure, view.tensors()), unchanged(f"the measure {measure.name}", network):
        scores: object = one.scores(view)
        shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        if not isinstance(scores, Tensor) or shape[-1:] != (len(view.V),):
            raise MeasureError(
                f"the measure {measure.name} has scores of a perturbation that are not a tensor "
                f"(..., {len(view.V)}): {shape}",
                TELL,
            )
        return scores.detach()


def _numbers(quantity: Quantity, scores: MapScores) -> Tensor:
    measure = quantity.measure
    if is_own(measure):
        return quantity.numbers(scores).float()
    with _code_of(measure, scores.tensors()):
        numbers: object = quantity.numbers(scores)
        who, B = f"the measure {measure.name}", len(scores.full)
        wanted = (B,) if measure.parts == 1 else (measure.parts, B)
        if not isinstance(numbers, Tensor):
            raise MeasureError(
                f"{who} did not return a tensor of {len(scores.full)} numbers but a "
                f"{type(numbers).__name__}",
                TELL,
            )
        if numbers.shape != wanted:
            raise MeasureError(
                f"{who} returned numbers of shape {tuple(numbers.shape)}, not {wanted}", TELL
            )
        found = numbers.detach().to(scores.full.device, torch.float32)
        return found.masked_fill(found.isinf(), math.nan)


@contextmanager
def _code_of(measure: Measure, tensors: dict[str, Tensor]) -> Iterator[None]:
    """Have whatever a measure does wrong within the block end in an error that names it."""
    if is_own(measure):
        yield
        return
    who, module = f"the measure {measure.name}", type(measure).__module__
    try:
        with plugin_code(f"{who} failed", module, but=RUNNING), unwritten(who, tensors):
            yield
    except LcamError as error:
        named = error.what if error.what.startswith(who) else f"{who} failed: {error.what}"
        raise MeasureError(named, error.hint) from error
