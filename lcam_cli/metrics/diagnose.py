"""Misclassified pictures, each with the maps of its true and its predicted class, in groups.

The paper's qualitative analysis (L-CAM, section 4.4) as a measurement: see ``error_groups`` for
the rules, ``suspicion`` for what they say about classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.engine.masked import MaskedForwards
from lcam_cli.errors import LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.images.read import MAX_PIXELS
from lcam_cli.images.stream import Batch, stream_batches
from lcam_cli.maps.record import Floats
from lcam_cli.methods.base import Method
from lcam_cli.methods.explain import pictures_at_once
from lcam_cli.metrics.error_groups import (
    DEFAULT_RULES,
    Evidence,
    Group,
    Rules,
    group_of,
)
from lcam_cli.metrics.threshold import top_percent


@dataclass(frozen=True)
class Mistake:
    """One misclassified picture.

    Attributes:
        path: The picture, as its row is called.
        true: The true class.
        predicted: The class with the highest score.
        evidence: What the classifier says of it.
        group: Its group.
    """

    path: str
    true: int
    predicted: int
    evidence: Evidence
    group: Group


@dataclass(frozen=True)
class Shown:
    """A mistake with all there is to see of it.

    Attributes:
        mistake: The picture.
        view: What the network sees of it, uint8 (H, W, 3).
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
        pictures: Pictures classified, by true class: R numbers.
        mistakes: The misclassified ones, in the order of the paths.
    """

    pictures: list[int]
    mistakes: list[Mistake] = field(default_factory=list)

    @property
    def images(self) -> int:
        """All pictures classified."""
        return sum(self.pictures)


def diagnose(
    engine: Engine,
    method: Method,
    paths: Sequence[str],
    labels: Sequence[int],
    *,
    rules: Rules = DEFAULT_RULES,
    workers: int = 2,
    max_pixels: int = MAX_PIXELS,
    row_path: Callable[[str], str] = lambda path: path,
    show: Callable[[Shown], None] = lambda _shown: None,
    advance: Callable[[int], None] = lambda _pictures: None,
    skip: Callable[[Skipped], None] = lambda _skipped: None,
    stop: Callable[[], bool] = lambda: False,
) -> Diagnosis:
    """Find the misclassified pictures and put each into one group.

    All pictures have one forward pass; the misclassified ones two maps, and another pass on the
    true class's region alone, where the rest is the mean colour.

    Args:
        engine: The engine with the classifier.
        method: How to explain.
        paths: The pictures.
        labels: Their true classes.
        rules: What the groups are told by.
        workers: Processes that read pictures.
        max_pixels: Pictures with more are skipped.
        row_path: What a path is called in the mistakes.
        show: Called with each mistake and its maps, which are not kept.
        advance: Called with the pictures done, after every batch.
        skip: Called with each picture that cannot be read.
        stop: Asked after every batch; True ends the run with what has been found.

    Raises:
        LcamError: No picture can be read, or a score is not a number.
    """
    found = Diagnosis([0] * engine.backbone.num_classes)
    stream = stream_batches(
        paths,
        engine.backbone.preprocess,
        pictures_at_once(engine, method),
        workers=workers,
        max_pixels=max_pixels,
    )
    for batch in stream:
        for skipped in batch.skipped:
            skip(skipped)
        truth = [labels[i] for i in batch.indices]
        for label in truth:
            found.pictures[label] += 1
        if batch.indices:
            names = [row_path(paths[i]) for i in batch.indices]
            for k, shown in _mistakes(engine, method, batch, truth, names, rules):
                if shown is None:  # as if it could not be read
                    found.pictures[truth[k]] -= 1
                    why = f"{method.name}: its map is not finite"
                    skip(Skipped(paths[batch.indices[k]], why))
                else:
                    found.mistakes.append(shown.mistake)
                    show(shown)
        advance(len(batch.indices) + len(batch.skipped))
        if stop():
            return found
    if not found.images:
        raise LcamError(f"none of the {len(paths)} pictures could be read", "check the pictures")
    return found


def _mistakes(
    engine: Engine, method: Method, batch: Batch, truth: list[int], names: list[str], rules: Rules
) -> list[tuple[int, Shown | None]]:
    """The misclassified pictures of a batch, by place; None where one has no map."""
    everything = engine.forward(engine.pixels(batch.images))
    if not everything.logits.isfinite().all():
        raise LcamError(
            "the classifier's confidence is not a number on some image",
            "try --precision fp32, and check the weights",
        )
    labels = torch.tensor(truth, device=engine.device)
    wrong = (everything.predicted != labels).nonzero().squeeze(1)
    if not len(wrong):
        return []
    # The correct ones need no map: on most networks that is four pictures of five.
    seen, true = everything.only(wrong), labels[wrong]
    predicted = seen.predicted
    maps = [method(engine, seen, classes).saliency.clamp(0, 1) for classes in (true, predicted)]
    evidence = gather_evidence(engine, seen, true, maps[0], maps[1], rules.nu)
    finite = torch.stack(maps).isfinite().all(0).all(1).all(1).tolist()
    true_maps, predicted_maps = (V.float().cpu().numpy() for V in maps)
    found: list[tuple[int, Shown | None]] = []
    for k, (i, one) in enumerate(zip(wrong.tolist(), evidence, strict=True)):
        mistake = Mistake(names[i], truth[i], int(predicted[k]), one, group_of(one, rules))
        shown = Shown(mistake, batch.images[i], true_maps[k], predicted_maps[k])
        found.append((i, shown if finite[k] else None))
    return found


def gather_evidence(
    engine: Engine, seen: Forward, true: Tensor, true_map: Tensor, predicted_map: Tensor, nu: float
) -> list[Evidence]:
    """Measure what the groups are told by.

    Args:
        engine: The engine with the classifier.
        seen: The misclassified pictures, B of them.
        true: Their true classes, (B,).
        true_map: V of the true classes, (B, H, W) in [0, 1].
        predicted_map: V of the predicted classes, the same.
        nu: Percent of the pixels in a region.
    """
    regions = [region(V, nu) for V in (true_map, predicted_map)]
    both, either = regions[0] & regions[1], regions[0] | regions[1]
    overlap = both.sum((1, 2)) / either.sum((1, 2)).clamp_min(1)
    kept = regions[0].float()
    scores = MaskedForwards(engine, seen.x, true).predictions(
        (i, kept[i : i + 1]) for i in range(len(kept))
    )
    # A map of zeros names no region: then nothing is kept, whatever the classifier says of that.
    scores = scores * regions[0].any(2).any(1, keepdim=True)
    columns = [
        seen.confidence(true),
        seen.confidence(seen.predicted),
        overlap,
        *(scores.gather(1, c.unsqueeze(1)).squeeze(1) for c in (true, seen.predicted)),
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
