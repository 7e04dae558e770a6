"""Misclassified images, each with the maps of its true and its predicted class, in groups.

The paper's qualitative analysis (L-CAM, section 4.4) as a measurement: see ``error_groups`` for
the rules, ``suspicion`` for what they say about classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.engine.masked import MaskedForwards
from lcam_cli.errors import LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.images.read import MAX_PIXELS
from lcam_cli.images.shown import as_rgb
from lcam_cli.images.stream import Batch, stream_batches
from lcam_cli.maps.record import Floats
from lcam_cli.measures.error_groups import (
    DEFAULT_RULES,
    Evidence,
    Group,
    Rules,
    group_of,
)
from lcam_cli.measures.label_order import LabelOrder
from lcam_cli.measures.threshold import top_percent
from lcam_cli.methods.base import Method, flat_maps
from lcam_cli.methods.explain import NOT_NUMBERS, no_numbers, not_numbers, pictures_at_once
from lcam_cli.methods.flat import why_flat
from lcam_cli.methods.run import run_method


@dataclass(frozen=True)
class Mistake:
    """One misclassified image.

    Attributes:
        path: The image, as its row is called.
        true: The true class.
        predicted: The class with the highest score.
        evidence: What the classifier says of it.
        group: Its group.
        second_group: Its group by the maps of a second method; None where there is none.
    """

    path: str
    true: int
    predicted: int
    evidence: Evidence
    group: Group
    second_group: Group | None = None

    @property
    def moves(self) -> bool:
        """Whether a second method puts it into another group."""
        return self.second_group not in (None, self.group)


@dataclass(frozen=True)
class ExplainedMistake:
    """A mistake with all there is to see of it.

    Attributes:
        mistake: The image.
        view: What the network sees of it, uint8 RGB (H, W, 3).
        true_map: V of the true class, float32 (H, W) in [0, 1].
        predicted_map: V of the predicted class, the same.
    """

    mistake: Mistake
    view: NDArray[np.uint8]
    true_map: Floats
    predicted_map: Floats


@dataclass
class Diagnosis:
    """The outcome of :func:`diagnose`.

    Attributes:
        pictures: Images classified, by true class: R numbers.
        mistakes: The misclassified ones, in the order of the paths.
        flat_maps: How many of their maps, two each, have one value everywhere.
        why_flat: Why the first of those have, in words; empty where that is not known.
        order: Watches whether the labels are the classes in another order.
    """

    pictures: list[int]
    mistakes: list[Mistake] = field(default_factory=list)
    flat_maps: int = 0
    why_flat: str = ""
    order: LabelOrder = field(default_factory=LabelOrder)

    @property
    def images(self) -> int:
        """All images classified."""
        return sum(self.pictures)


def diagnose(
    engine: Engine,
    method: Method,
    paths: Sequence[str],
    labels: Sequence[int],
    *,
    second: Method | None = None,
    rules: Rules = DEFAULT_RULES,
    workers: int = 2,
    max_pixels: int = MAX_PIXELS,
    row_path: Callable[[str], str] = lambda path: path,
    show: Callable[[ExplainedMistake], None] = lambda _shown: None,
    advance: Callable[[int], None] = lambda _pictures: None,
    skip: Callable[[Skipped], None] = lambda _skipped: None,
    stop: Callable[[], bool] = lambda: False,
) -> Diagnosis:
    """Find the misclassified images and put each into one group.

    All images have one forward pass; the misclassified ones two maps, and another pass on the
    true class's region alone, where the rest is the mean colour. A second method costs them as
    much again.

    Args:
        engine: The engine with the classifier.
        method: How to explain.
        paths: The images.
        labels: Their true classes.
        second: Another method to put each mistake into a group with; it changes nothing else.
        rules: What the groups are known by.
        workers: Processes that read images.
        max_pixels: Images with more are skipped.
        row_path: What a path is called in the mistakes.
        show: Called with each mistake and its maps, which are not kept.
        advance: Called with the images done, after every batch.
        skip: Called with each image that cannot be read, or whose scores or maps are no numbers.
        stop: Asked after every batch; True ends the run with what has been found.

    Raises:
        LcamError: No image can be read, or has scores that are numbers.
    """
    found = Diagnosis([0] * engine.backbone.num_classes)
    methods = [method] if second is None else [method, second]
    stream = stream_batches(
        paths,
        engine.backbone.preprocess,
        min(pictures_at_once(engine, one) for one in methods),
        workers=workers,
        max_pixels=max_pixels,
    )
    # Where no image has numbers for scores, that is said once, and not of each.
    unreported: list[Skipped] = []
    for batch in stream:
        for skipped in batch.skipped:
            skip(skipped)
        if batch.indices:
            for i, outcome in _classified(engine, methods, batch, labels, paths, rules, row_path):
                if isinstance(outcome, str):
                    unreported.append(Skipped(paths[i], outcome))
                    continue
                found.pictures[labels[i]] += 1
                found.order.update(labels[i], outcome.predicted)
                if outcome.shown is not None:
                    found.mistakes.append(outcome.shown.mistake)
                    found.flat_maps += outcome.flat_maps
                    found.why_flat = found.why_flat or outcome.why_flat
                    show(outcome.shown)
        if found.images:
            for skipped in unreported:
                skip(skipped)
            unreported.clear()
        advance(len(batch.indices) + len(batch.skipped))
        if stop():
            return found
    if unreported and all(one.reason.startswith(NOT_NUMBERS) for one in unreported):
        raise no_numbers(len(unreported), engine.hardware.precision)
    for skipped in unreported:
        skip(skipped)
    if not found.images:
        raise LcamError(f"none of the {len(paths)} images could be read", "check the images")
    return found


@dataclass(frozen=True)
class _Classified:
    """An image of a batch: what it is taken for and, where that is wrong, what is to be seen."""

    predicted: int
    shown: ExplainedMistake | None = None
    flat_maps: int = 0
    why_flat: str = ""


def _classified(
    engine: Engine,
    methods: Sequence[Method],
    batch: Batch,
    labels: Sequence[int],
    paths: Sequence[str],
    rules: Rules,
    row_path: Callable[[str], str],
) -> list[tuple[int, _Classified | str]]:
    """The images of a batch in order, each with its place, or with why it is left out."""
    everything = engine.forward(engine.pixels(batch.images))
    truth = torch.tensor([labels[i] for i in batch.indices], device=engine.device)
    finite = everything.finite
    found: list[_Classified | str] = [
        _Classified(predicted) if has_scores else not_numbers(engine)
        for predicted, has_scores in zip(
            everything.predicted.tolist(), finite.tolist(), strict=True
        )
    ]
    wrong = ((everything.predicted != truth) & finite).nonzero().squeeze(1)
    if len(wrong):
        # The correct ones need no map: on most networks that is four images of five.
        at = wrong.tolist()
        names = [row_path(paths[batch.indices[k]]) for k in at]
        mistakes = _mistakes(
            engine, methods, batch.images[at], everything.only(wrong), truth[wrong], names, rules
        )
        for k, mistake in zip(at, mistakes, strict=True):
            found[k] = mistake
    return list(zip(batch.indices, found, strict=True))


def _mistakes(
    engine: Engine,
    methods: Sequence[Method],
    views: NDArray[Any],
    forward: Forward,
    true: Tensor,
    names: list[str],
    rules: Rules,
) -> list[_Classified | str]:
    """Explain misclassified images, and put each into a group."""
    method, *others = methods
    predicted = forward.predicted
    maps, evidence, finite = _explained(engine, method, forward, true, rules.nu)
    second: list[Group | None] = [None] * len(true)
    for other in others:
        _, evidence_of_other, has_numbers = _explained(engine, other, forward, true, rules.nu)
        second = [
            group_of(one, rules) if fine else None
            for one, fine in zip(evidence_of_other, has_numbers, strict=True)
        ]
    flat = [flat_maps(V) for V in maps]
    counts = torch.stack(flat).sum(0).tolist()
    reasons = [""] * len(true)
    for some, classes in zip(flat, (true, predicted), strict=True):
        if some.any():
            why = why_flat(engine, method.name, forward.only(some), classes[some])
            reasons = [
                r or why * is_flat for r, is_flat in zip(reasons, some.tolist(), strict=True)
            ]
    true_maps, predicted_maps = (V.float().cpu().numpy() for V in maps)
    found: list[_Classified | str] = []
    for k, one in enumerate(evidence):
        if not finite[k]:
            found.append(f"{method.name}: its map is not finite")
            continue
        mistake = Mistake(
            names[k], int(true[k]), int(predicted[k]), one, group_of(one, rules), second[k]
        )
        shown = ExplainedMistake(mistake, as_rgb(views[k]), true_maps[k], predicted_maps[k])
        found.append(_Classified(mistake.predicted, shown, counts[k], reasons[k]))
    return found


def _explained(
    engine: Engine, method: Method, forward: Forward, true: Tensor, nu: float
) -> tuple[list[Tensor], list[Evidence], list[bool]]:
    """The maps of the true and the predicted classes, the evidence, and which maps are finite."""
    checked = [run_method(engine, method, forward, c) for c in (true, forward.predicted)]
    for explained in checked:
        explained.check_range()
    maps = [explained.maps.saliency for explained in checked]
    evidence = gather_evidence(engine, forward, true, maps[0], maps[1], nu)
    return maps, evidence, torch.stack(maps).isfinite().all(0).all(1).all(1).tolist()


def gather_evidence(
    engine: Engine,
    forward: Forward,
    true: Tensor,
    true_map: Tensor,
    predicted_map: Tensor,
    nu: float,
) -> list[Evidence]:
    """Measure what the groups are known by.

    Args:
        engine: The engine with the classifier.
        forward: The misclassified images, B of them.
        true: Their true classes, (B,).
        true_map: V of the true classes, (B, H, W) in [0, 1].
        predicted_map: V of the predicted classes, the same.
        nu: Percent of the pixels in a region.
    """
    regions = [region(V, nu) for V in (true_map, predicted_map)]
    both, either = regions[0] & regions[1], regions[0] | regions[1]
    overlap = both.sum((1, 2)) / either.sum((1, 2)).clamp_min(1)
    kept = regions[0].float()
    scores = MaskedForwards(engine, forward.x, true).predictions(
        (i, kept[i : i + 1]) for i in range(len(kept))
    )
    # A map of zeros names no region: then nothing is kept, whatever the classifier says of that.
    scores = scores * regions[0].any(2).any(1, keepdim=True)
    columns = [
        forward.confidence(true),
        forward.confidence(forward.predicted),
        overlap,
        *(scores.gather(1, c.unsqueeze(1)).squeeze(1) for c in (true, forward.predicted)),
    ]
    return [Evidence(*row) for row in torch.stack(columns, 1).cpu().tolist()]


def region(V: Tensor, nu: float) -> Tensor:
    """Return which pixels are a class's region: the highest ν% of V that are above 0.

    Args:
        V: Maps (B, H, W) in [0, 1].
        nu: Percent of the pixels, in (0, 100].

    Returns:
        bool (B, H, W).
    """
    return top_percent(V, nu) > 0
