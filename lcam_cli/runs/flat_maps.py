"""Telling of flat maps: how many of whose, and why, in one line a run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import torch

from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.images.read import MAX_PIXELS
from lcam_cli.images.stream import stream_batches
from lcam_cli.methods.base import Method
from lcam_cli.methods.flat import named_for_flat, why_flat
from lcam_cli.runs.reporter import Reporter


def warn_of_flat_maps(
    reporter: Reporter, counts: Mapping[str, tuple[int, int]], reason: str = ""
) -> None:
    """Say in one line how many maps are flat.

    Args:
        reporter: Where it is said.
        counts: By method: flat maps, and all maps.
        reason: Why those of the first such method are; empty where it is not known.
    """
    some = {method: count for method, count in counts.items() if count[0]}
    if not some:
        return
    listed = ", ".join(f"{method} {flat} of {maps}" for method, (flat, maps) in some.items())
    whose = f"{next(iter(some))}: " if reason and len(some) > 1 else ""
    why = f": {whose}{reason}" if reason else ""
    reporter.warn(f"flat maps (the same everywhere) explain nothing ({listed}){why}")


def reason_of_picture(engine: Engine, method: Method, path: str, class_index: int) -> str:
    """Find out why a method's map of an image is flat, by reading the image once more.

    Returns:
        As :func:`~lcam_cli.methods.flat.why_flat`; empty also where it cannot be read any more.
    """
    with suppress(LcamError):
        for batch in stream_batches(
            [path], engine.backbone.preprocess, 1, workers=1, max_pixels=MAX_PIXELS
        ):
            if batch.indices:
                forward = engine.forward(engine.pixels(batch.images))
                name = named_for_flat(method.name, method.params)
                classes = torch.tensor([class_index], device=engine.device)
                return why_flat(engine, name, forward, classes)
    return ""
