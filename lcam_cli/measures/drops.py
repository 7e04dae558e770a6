"""Average Drop of several methods in one pass over the images, with kept pixels shown both ways.

A sweep shows kept pixels with the map's values or whole; here an image's one forward pass, and its
map, serve both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.images.find import Skipped
from lcam_cli.images.read import MAX_PIXELS
from lcam_cli.images.stream import stream_batches
from lcam_cli.measures.average_drop import AverageDrop
from lcam_cli.measures.measure import Quantity
from lcam_cli.measures.scoring import numbers_of, score_maps
from lcam_cli.measures.view import BatchView, MapView
from lcam_cli.methods.base import Method
from lcam_cli.methods.explain import with_numbers
from lcam_cli.methods.run import run_method


@dataclass(frozen=True)
class Drop:
    """AD at one ν.

    Attributes:
        nu: The percentage ν, in (0, 100].
        keep: ``"values"`` or ``"whole"``: whether kept pixels have the map's values, or are whole.
    """

    nu: float
    keep: str

    @property
    def quantity(self) -> Quantity:
        """What is measured."""
        return Quantity(AverageDrop(), self.nu)


@dataclass(frozen=True)
class Measured:
    """A method, and which drops are measured of it.

    Attributes:
        method: How it explains.
        drops: What is measured, at least one.
    """

    method: Method
    drops: Sequence[Drop]


def measure_drops(
    engine: Engine,
    methods: Mapping[str, Measured],
    paths: Sequence[str],
    *,
    workers: int = 2,
    max_pixels: int = MAX_PIXELS,
    advance: Callable[[int], None] = lambda _maps: None,
    skip: Callable[[Skipped], None] = lambda _skipped: None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, NDArray[np.float64]] | None:
    """Measure the drops of methods on the centre views of images, each explained as predicted.

    Args:
        engine: The engine with the classifier.
        methods: The methods by name.
        paths: The images, N of them. A batch of them is in memory at a time.
        workers: Processes that read images.
        max_pixels: Images with more are skipped.
        advance: Called with the maps done, an image and a method each.
        skip: Called with each image that cannot be read, or whose scores are no numbers.
        stop: Asked before every method of every batch; True ends it.

    Returns:
        AD in percent, in [0, 100], by the methods' names: (drops, N). NaN where an image is
        skipped or AD is not defined. None where it was stopped.
    """
    found = {name: np.full((len(one.drops), len(paths)), math.nan) for name, one in methods.items()}
    stream = stream_batches(
        paths, engine.backbone.preprocess, engine.batch_size, workers=workers, max_pixels=max_pixels
    )
    for batch in stream:
        read = batch
        forward = engine.forward(engine.pixels(read.images)) if read.indices else None
        if forward is not None and not forward.finite.all():
            read, forward = with_numbers(engine, read, forward, paths), forward.only(forward.finite)
        for skipped in read.skipped:
            skip(skipped)
        for name, one in methods.items():
            if stop():
                stream.close()
                return None
            if forward is not None and read.indices:
                found[name][:, read.indices] = _drops_of(engine, one, forward).cpu().numpy()
            advance(len(read.indices) + len(read.skipped))
    return found


def _drops_of(engine: Engine, measured: Measured, forward: Forward) -> Tensor:
    """The drops (drops, B) of a method on B images."""
    classes = forward.predicted
    V = run_method(engine, measured.method, forward, classes).maps.saliency
    full = forward.confidence(classes)
    views = {
        keep: MapView(BatchView(engine, forward, "pixel", keep), V, classes, full)
        for keep in {drop.keep for drop in measured.drops}
    }
    rows = []
    for drop in measured.drops:
        scores = score_maps(views[drop.keep], [drop.quantity])
        rows.append(numbers_of([drop.quantity], scores))
    return torch.cat(rows)
