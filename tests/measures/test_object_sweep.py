"""Measures of place in a comparison, from images and a file of boxes or a folder of masks on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.measures.object_files.read import Run, read_objects
from lcam_cli.measures.picture_scores import PictureScores
from lcam_cli.measures.registry import make_measures
from lcam_cli.measures.rows import score_rows, undefined
from lcam_cli.measures.sweep import Candidate, sweep
from lcam_cli.measures.task import Task
from lcam_cli.methods.base import Maps
from lcam_cli.methods.explain import ClassChoice
from tests.tiny import tiny_backbone, write_pictures

# Of an image of 50 × 40 the network sees x from 6.67 to 42.22 and y from 2.22 to 37.78, at 0.9 of
# its size, as 32 × 32. This box is 3 3 19 16 there.
BOX = (10, 50 / 9, 250 / 9, 20)


class TopLeft:
    """One map for all: bright on BOX, half as bright below it, and bright at the bottom."""

    name, forward_passes = "top-left", 1
    params: dict[str, Any] = {}  # noqa: RUF012

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        V = torch.zeros(len(classes), 32, 32)
        V[:, 3:16, 3:19] = 1
        V[:, 16:29, 3:19] = 0.5
        V[:, 29:32, 3:19] = 1
        return Maps(V, None)


def boxes(folder: Path, paths: list[str]) -> Path:
    """Boxes for all images but the last, for class 1 alone in the first."""
    edges = ",".join(f"{edge:.6f}" for edge in BOX)
    labels = ["1", *[""] * (len(paths) - 2)]
    lines = [
        f"{Path(path).name},{edges},{label}" for path, label in zip(paths, labels, strict=False)
    ]
    (folder / "boxes.csv").write_text("\n".join(lines))
    return folder / "boxes.csv"


def masks(folder: Path, paths: list[str]) -> Path:
    """The same objects as masks at ten times the size."""
    drawn = np.zeros((400, 500), np.uint8)
    x0, y0, x1, y1 = (round(10 * edge) for edge in BOX)
    drawn[y0:y1, x0:x1] = 255
    for path in paths[:-1]:
        (folder / "masks").mkdir(exist_ok=True)
        Image.fromarray(drawn).save(folder / "masks" / f"{Path(path).stem}.png")
    return folder / "masks"


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(tiny_backbone(), device="cpu", precision="fp32", batch_size=4)


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_a_comparison_by_boxes_and_by_masks(tmp_path: Path, engine: Engine, kind: str) -> None:
    paths = write_pictures(tmp_path / "in", 6)
    warnings: list[str] = []
    source = read_objects(
        boxes(tmp_path, paths) if kind == "boxes" else None,
        masks(tmp_path, paths) if kind == "masks" else None,
        Run.of_files(paths, str(tmp_path / "in")),
        engine.backbone,
        warnings.append,
    )
    measures = make_measures(["pointing", "energy", "iou"], objects=True)
    task = Task(paths, ClassChoice((0, 1)), [100.0], measures, objects=source)
    candidate = Candidate("top-left", TopLeft(), PictureScores.empty(task, (32, 32)))
    sweep(engine, [candidate], task)
    (row,) = score_rows({"top-left": candidate.scores}, task)
    total = 208 + 104 + 48
    assert row.scores.plain["pointing"].mean == 100
    assert row.scores.plain["energy"].mean == pytest.approx(100 * 208 / total, abs=1e-3)
    assert row.scores.plain["iou"].mean == pytest.approx(100)
    # Of 12 maps, two classes an image: the last image has no object, the first one of class 1.
    lacking = 3 if kind == "boxes" else 2
    found = undefined([candidate.scores], task)
    assert [found[name] for name in ("pointing", "energy", "iou")] == [lacking] * 3
    assert len(warnings) == 1
    assert "1 of 6 images has no" in warnings[0]
    assert source is not None
    told = "no box has the explained class" if kind == "boxes" else "and is scaled: 5 images"
    (line,) = source.lines()
    assert told in line
