"""Batches to write in tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lcam_cli.images.find import Skipped
from lcam_cli.maps.hdf5.layout import Capacity
from lcam_cli.maps.hdf5.writer import Hdf5Writer
from lcam_cli.maps.record import MapBatch, MapsInfo

SIZE = (6, 5)
INFO = MapsInfo(
    method="lcam-img",
    method_params={"mode": "img"},
    backbone="vgg16",
    weights="DEFAULT",
    layer="features.29",
    root="/pictures",
    preprocess={"mean": (0.1, 0.2, 0.3)},
    classes_explained={"top_k": 1},
)
CAPACITY = Capacity(rows=64, skipped=64, path_bytes=40, class_name_bytes=20)


def make_batch(first: int, rows: int, *, cam: bool = True, skipped: int = 0) -> MapBatch:
    """Rows whose values follow from their number, so that any mix-up shows."""
    rng = [np.random.default_rng(first + row) for row in range(rows)]
    numbers = np.arange(first, first + rows)
    return MapBatch(
        saliency=np.stack([r.random(SIZE, np.float32) for r in rng])
        if rows
        else np.zeros((0, *SIZE), np.float32),
        cam=np.tile(numbers[:, None, None], (1, 2, 3)).astype(np.float32) if cam else None,
        paths=[f"folder/ü {number}.jpg" for number in numbers],
        class_index=numbers.astype(np.int32),
        predicted_index=(numbers + 1).astype(np.int32),
        class_names=[f"class {number}" for number in numbers],
        confidence=(numbers / 1e6).astype(np.float32),
        crop_box=np.stack([numbers, numbers, numbers + 1.5, numbers + 2], axis=1).astype(
            np.float32
        ),
        skipped=[Skipped(f"bad {first + number}.jpg", "empty file") for number in range(skipped)],
    )


def writer(path: Path, **options: object) -> Hdf5Writer:
    settings = {"size": SIZE, "capacity": CAPACITY, "map_dtype": "float32", **options}
    return Hdf5Writer(path, INFO, **settings)  # type: ignore[arg-type]
