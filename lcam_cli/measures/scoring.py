"""The scores that measures want of a batch of maps, and the numbers that they make of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lcam_cli.errors import LcamError
from lcam_cli.measures.measure import MapScores, Perturbation, Quantity
from lcam_cli.measures.view import MapView


def score_maps(
    view: MapView, wanted: Sequence[Quantity], also: Sequence[Perturbation] = ()
) -> MapScores:
    """Score what measures want scored, and ``also`` some: each once, whoever asks for it."""
    asked = [one for quantity in wanted for one in quantity.perturbations]
    perturbed = {one: one.scores(view) for one in dict.fromkeys([*also, *asked])}
    return MapScores(view.V, view.full, perturbed)


def numbers_of(wanted: Sequence[Quantity], scores: MapScores) -> Tensor:
    """Make the numbers of scored maps.

    Args:
        wanted: K quantities.
        scores: Of B maps.

    Returns:
        float32 (K, B); NaN where a measure is not defined.

    Raises:
        LcamError: A measure of another package fails, or does not give a number a map.
    """
    return torch.stack([_numbers(quantity, scores) for quantity in wanted])


def _numbers(quantity: Quantity, scores: MapScores) -> Tensor:
    measure = quantity.measure
    try:
        numbers = quantity.numbers(scores)
    except Exception as error:
        if isinstance(error, LcamError) or type(measure).__module__.startswith("lcam_cli."):
            raise
        raise LcamError(
            f"the measure {measure.name} failed: {type(error).__name__}: {error}",
            "tell its author",
        ) from error
    if numbers.shape != scores.full.shape:
        raise LcamError(
            f"the measure {measure.name} gives numbers of shape {tuple(numbers.shape)}, "
            f"not {tuple(scores.full.shape)}",
            "tell its author",
        )
    return numbers.float()
