"""What the demo's maps show, by the true masks of its images. Imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray

from lcam_cli.demo.pictures import SIZE
from lcam_cli.maps.hdf5.reader import MapsFile
from lcam_cli.measures.measure import MapScores, Parts, quantities
from lcam_cli.measures.object_files.masks import Masks
from lcam_cli.measures.object_files.read import Run, read_objects
from lcam_cli.measures.object_files.views import Views
from lcam_cli.measures.registry import find_measure
from lcam_cli.measures.scoring import numbers_of

MEASURES = ("pointing", "energy", "iou")


def object_scores(maps: Path, masks: Path, shortcut: str) -> tuple[Mapping[str, float], ...]:
    """Measure how well maps of the demo's images lie on the objects.

    Args:
        maps: The maps file; each row's path is ``<class>/<image>``.
        masks: The folder of the true masks, ``<class>/<image's stem>.png``.
        shortcut: The class that is measured by itself.

    Returns:
        The measures by name, of the images of all other classes, and of those of that class.
    """
    measured = quantities([find_measure(name) for name in MEASURES], ())
    of_class: list[NDArray[np.float64]] = []
    of_others: list[NDArray[np.float64]] = []
    with MapsFile(maps, trusted=True) as file:
        source = read_objects(None, masks, Run.of_rows(file.paths(), ""), None)
        assert isinstance(source, Masks)
        for rows in file.batches(64):
            views = Views(rows.crop_box, np.full((len(rows), 2), SIZE, np.int32), file.size)
            classes = torch.from_numpy(rows.class_index.astype(np.int64))
            objects = source.in_views(views, rows.paths, classes)
            V, full = torch.from_numpy(rows.saliency), torch.from_numpy(rows.confidence)
            numbers = numbers_of(measured, MapScores(V, full, {}, objects)).double().numpy()
            for path, one in zip(rows.paths, numbers.T, strict=True):
                is_shortcut = PurePosixPath(path).parent.name == shortcut
                (of_class if is_shortcut else of_others).append(one)
    means = np.stack([np.mean(of_others, 0), np.mean(of_class, 0)], 1)
    others, its = Parts(measured).summarise(means).T.tolist()
    return dict(zip(MEASURES, others, strict=True)), dict(zip(MEASURES, its, strict=True))
