"""The images of a comparison, read again with the maps of rows that lost different ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.errors import LcamError
from lcam_cli.maps.hdf5.layout import Capacity
from lcam_cli.maps.hdf5.reader import MapsFile
from lcam_cli.maps.hdf5.writer import Hdf5Writer
from lcam_cli.maps.record import MapsInfo
from lcam_cli.measures.compare_pictures import scored_pictures
from lcam_cli.measures.picture_scores import PictureScores
from lcam_cli.measures.scored import ScoredBatch
from lcam_cli.measures.sweep import Candidate, sweep
from lcam_cli.measures.task import Task
from lcam_cli.measures.threshold import Thresholds
from lcam_cli.methods.base import Maps
from lcam_cli.methods.explain import ClassChoice
from lcam_cli.methods.gradient import GradCam
from lcam_cli.methods.noise import RandomMap
from tests.tiny import SMALL, tiny_backbone, write_pictures

INFO = MapsInfo("m", "tiny", "none", "3", ".", preprocess=SMALL.to_json())


class Choosy(GradCam):
    """Fails on images that are dark at the corner."""

    def __call__(self, engine: Engine, seen: Forward, classes: Tensor) -> Maps:
        if (seen.x[:, :, 0, 0].mean(1) < 0.05).any():
            raise LcamError("too dark")
        return super().__call__(engine, seen, classes)


def compared(
    folder: Path, paths: list[str], choice: ClassChoice
) -> tuple[Engine, Task, list[Candidate], list[Path]]:
    engine = Engine(tiny_backbone(), device="cpu", precision="fp32", batch_size=4)
    task = Task(paths, choice, [100.0, 30.0])
    methods = {"choosy": Choosy(), "gradcam": GradCam(), "random": RandomMap(0)}
    candidates = [Candidate(n, m, PictureScores.empty(task, (32, 32))) for n, m in methods.items()]
    files = []
    capacity = Capacity.of(paths, ["class"], classes_per_picture=choice.per_picture)
    for candidate in candidates:
        files.append(folder / f"{candidate.name}.h5")
        writer = Hdf5Writer(files[-1], INFO, size=(32, 32), capacity=capacity, map_dtype="float32")
        candidate.write = writer.append
        sweep(engine, [candidate], task, workers=1)
        writer.finish()
        writer.__exit__(None, None, None)
    return engine, task, candidates, files


def shown(task: Task, candidates: list[Candidate], files: list[Path]) -> list[ScoredBatch]:
    maps = [MapsFile(file) for file in files]
    rows = [candidate.scores for candidate in candidates]
    return list(scored_pictures(task, rows, maps, SMALL, workers=1))


@pytest.mark.parametrize("choice", [ClassChoice(), ClassChoice((2, 0))], ids=["top", "two"])
def test_every_row_is_of_its_picture_and_scores_what_its_map_does(
    tmp_path: Path, choice: ClassChoice
) -> None:
    paths = write_pictures(tmp_path / "pictures", 21)
    for dark in (0, 7, 8, 20):
        Image.new("RGB", (40, 40)).save(paths[dark])
    Path(paths[3]).write_bytes(b"no picture")
    engine, task, candidates, files = compared(tmp_path, paths, choice)
    assert candidates[0].scores.scored.sum() == 16
    assert candidates[1].scores.scored.sum() == 20
    C = choice.per_picture
    batches = shown(task, candidates, files)
    expected = [path for i, path in enumerate(paths) if i not in (0, 3, 7, 8, 20)]
    assert [path for b in batches for path in b.paths] == [p for p in expected for _ in range(C)]
    for batch in batches:
        x = engine.pixels(batch.images)
        classes = engine.forward(x).predicted.new_tensor(batch.class_index.astype(np.int64))
        full = engine.forward(x).confidence(classes)
        assert batch.full == pytest.approx(full.numpy(), abs=1e-5)
        for V, masked in zip(batch.saliency, batch.masked, strict=True):
            thresholds = Thresholds(x.new_tensor(V))
            for nu, scores in zip(task.nus, masked, strict=True):
                mask = thresholds.top_percent(nu)
                again = engine.masked_confidence(x, mask, classes, "pixel")
                assert scores == pytest.approx(again.numpy(), abs=1e-5)


def test_a_picture_that_has_gone_is_left_out(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "pictures", 6)
    _, task, candidates, files = compared(tmp_path, paths, ClassChoice())
    Path(paths[2]).unlink()
    (batch,) = shown(task, candidates, files)
    assert batch.paths == paths[:2] + paths[3:]


def test_maps_that_lack_rows_are_refused(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "pictures", 6)
    _, task, candidates, files = compared(tmp_path, paths, ClassChoice())
    few = Task(paths[:3], ClassChoice(), task.nus)
    candidate = Candidate("gradcam", GradCam(), PictureScores.empty(few, (32, 32)))
    capacity = Capacity.of(paths, ["class"], classes_per_picture=1)
    with Hdf5Writer(files[1], INFO, size=(32, 32), capacity=capacity, overwrite=True) as writer:
        candidate.write = writer.append
        sweep(Engine(tiny_backbone(), device="cpu", batch_size=4), [candidate], few, workers=1)
        writer.finish()
    with pytest.raises(LcamError, match="lacks rows"):
        shown(task, candidates, files)
