"""Whether a method is the one that a file's maps were made with."""

from __future__ import annotations

import contextlib
from itertools import compress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.images.read import MAX_PIXELS
from lcam_cli.images.stream import Batch, stream_batches
from lcam_cli.maps.hdf5.reader import MapsFile
from lcam_cli.measures.evaluate import check_fits, resolve
from lcam_cli.measures.view import BatchView, MapView
from lcam_cli.methods.base import Method
from lcam_cli.methods.explain import pictures_at_once

TOLERANCE = 1e-3
"""How far a pixel of a map may be from the file's, besides what storing it has rounded."""

_ROUNDED = {"float16": 2**-12, "uint8": 0.5 / 255, "float32": 0.0}
"""The most that storing a value in [0, 1] changes it."""

_OTHER_PRECISION = 0.1
"""A difference below this may be that of another precision; other methods differ by more."""


def check_makes_maps(
    engine: Engine,
    method: Method,
    maps: MapsFile,
    *,
    images: Path | None = None,
    workers: int = 2,
    max_pixels: int = MAX_PIXELS,
) -> None:
    """Check that a method reproduces the maps of a file, on the first images that can be read.

    Half of their maps are enough: where a method chooses channels or positions, rounding may
    choose others on an image.

    Args:
        engine: The engine with the classifier, which places maps as the file's are.
        method: The method.
        maps: The file.
        images: The folder of the images, if they have moved.
        workers: Processes that read images.
        max_pixels: Images with more are not read.

    Raises:
        LcamError: It makes other maps, or fails; or the file does not fit the classifier.
    """
    check_fits(engine, maps)
    paths, _ = resolve(maps, maps.paths(), images)
    size = pictures_at_once(engine, method)
    stream = stream_batches(
        paths, engine.backbone.preprocess, size, workers=workers, max_pixels=max_pixels
    )
    with contextlib.closing(stream):
        for batch in stream:
            if batch.indices:
                found = _differences(engine, method, maps, batch)
                if len(found):
                    _check_differences(found, method, maps)
                    return


def _differences(engine: Engine, method: Method, maps: MapsFile, batch: Batch) -> Tensor:
    """The largest difference of each map to the file's, of images whose scores are numbers."""
    first = batch.indices[0]
    rows = maps.rows(first, batch.indices[-1] + 1)
    forward = engine.forward(engine.pixels(batch.images))
    finite = forward.finite
    if not finite.any():
        return torch.zeros(0)
    kept = np.array(list(compress(batch.indices, finite.tolist()))) - first
    forward = forward.only(finite)
    classes = torch.from_numpy(rows.class_index[kept].astype(np.int64)).to(engine.device)
    V = torch.from_numpy(rows.saliency[kept]).to(engine.device)
    view = BatchView(engine, forward, "pixel")
    again = MapView(view, V, classes, forward.confidence(classes), method).explain_again(forward)
    return (again - V).abs().flatten(1).amax(1).cpu()


def _check_differences(found: Tensor, method: Method, maps: MapsFile) -> None:
    if found.isnan().all():
        raise LcamError(
            f"{method.name} cannot explain any of the first images of {maps.path} again",
            "use measures that do not explain again",
        )
    middle = float(found.nanmedian())
    if middle > TOLERANCE + _ROUNDED.get(maps.map_dtype, 0.0):
        made_in, precision = maps.info.precision, ""
        if middle < _OTHER_PRECISION and made_in:
            precision = f"pass --precision {made_in}, in which they were made, or "
        elif middle < _OTHER_PRECISION:
            precision = "pass the --precision in which they were made, or "
        raise LcamError(
            f"{method.name} does not reproduce the maps in {maps.path}: they differ "
            f"by {middle:.2g}",
            f"{precision}write the maps again with lcam explain",
        )
