"""The demo's measures of its maps, against masks looked at by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lcam_cli.demo.pictures import CLASSES, PHOTOS_SEED, SHORTCUT_CLASS, SIZE, write_pictures
from lcam_cli.maps.hdf5.layout import Capacity
from lcam_cli.maps.hdf5.writer import Hdf5Writer
from lcam_cli.maps.record import MapBatch, MapsInfo
from lcam_cli.runs.demo import object_scores

SIDE = 128
BOX = (64.0, 16.0, 320.0, 272.0)  # of 384 × 288: resized to 144, the middle 128


def by_hand(mask: Path) -> np.ndarray:
    """What the network sees of a mask: every second pixel of the middle."""
    values = np.asarray(Image.open(mask))
    assert values.shape == SIZE[::-1]
    return values[17:272:2, 65:320:2]


def test_maps_of_the_objects_and_of_all_but_the_boats(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", per_class=2, seed=PHOTOS_SEED, masks=tmp_path / "masks")
    names = [f"{name}/{number:02d}.jpg" for name in CLASSES for number in range(2)]
    inside = np.stack([by_hand((tmp_path / "masks" / name).with_suffix(".png")) for name in names])
    boats = np.array([name.startswith(SHORTCUT_CLASS) for name in names])
    V = np.where(boats[:, None, None], ~inside * 0.75, inside).astype(np.float32)
    V[0, :64] += 0.25 * ~inside[0, :64]
    rows = MapBatch(
        V, None, names,
        np.repeat(np.arange(len(CLASSES), dtype=np.int32), 2),
        np.zeros(len(names), np.int32),
        [Path(name).parent.name for name in names],
        np.ones(len(names), np.float32),
        np.tile(np.float32(BOX), (len(names), 1)),
    )  # fmt: skip
    info = MapsInfo("lcam-img", "lcam-demo", "DEFAULT", "features.4", "in", classes=CLASSES)
    capacity = Capacity.of(names, CLASSES)
    with Hdf5Writer(
        tmp_path / "maps.h5", info, size=(SIDE, SIDE), capacity=capacity, map_dtype="float32"
    ) as writer:
        writer.append(rows)
        writer.finish()
    others, its = object_scores(tmp_path / "maps.h5", tmp_path / "masks", SHORTCUT_CLASS)
    energies = (V * inside).sum((1, 2)) / V.sum((1, 2)) * 100
    assert others["pointing"] == 100
    assert others["energy"] == pytest.approx(energies[~boats].mean(), rel=1e-5)
    assert others["iou"] == 100
    assert its["energy"] == 0
    assert its["iou"] < 100
