"""The loop from paths to rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.errors import LcamError
from lcam_cli.methods.base import Maps
from lcam_cli.methods.explain import ClassChoice, explain
from lcam_cli.methods.gradient import GradCam
from lcam_cli.methods.noise import RandomMap
from tests.tiny import tiny_backbone, write_pictures


@pytest.fixture
def engine() -> Engine:
    return Engine(tiny_backbone(), device="cpu", batch_size=4)


def test_rows_do_not_depend_on_the_batch(engine: Engine, tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, 7)
    for method in (GradCam(), RandomMap(seed=3)):
        by_four = [row for batch in explain(engine, method, paths) for row in batch]
        one = Engine(tiny_backbone(), device="cpu", batch_size=1)
        by_one = [row for batch in explain(one, method, paths) for row in batch]
        assert [row.path for row in by_four] == paths
        for a, b in zip(by_four, by_one, strict=True):
            np.testing.assert_allclose(a.saliency, b.saliency, atol=1e-5)
            assert a.class_index == b.class_index


def test_the_start_gives_the_rest_of_the_rows(engine: Engine, tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, 7)
    whole = list(explain(engine, GradCam(), paths))
    rest = list(explain(engine, GradCam(), paths, start=4))
    assert [b.paths for b in rest] == [b.paths for b in whole[1:]]
    assert np.array_equal(rest[0].saliency, whole[1].saliency)


def test_named_classes_and_the_k_best(engine: Engine, tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, 2)
    (named,) = explain(engine, GradCam(), paths, choice=ClassChoice((3, 1)))
    assert named.class_index.tolist() == [3, 1, 3, 1]
    (best,) = explain(engine, GradCam(), paths, choice=ClassChoice(top_k=4))
    confidence = best.confidence.reshape(2, 4)
    np.testing.assert_allclose(confidence.sum(1), 1, rtol=1e-5)
    assert (np.diff(confidence) <= 0).all()
    # A row's map is that of its class, whichever others were asked for.
    (alone,) = explain(engine, GradCam(), paths, choice=ClassChoice((1,)))
    np.testing.assert_allclose(named.saliency[1::2], alone.saliency, atol=1e-6)


def test_a_batch_without_readable_pictures_is_passed_on(engine: Engine, tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, 5)
    for path in paths[:4]:
        Path(path).write_text("none")
    first, second = explain(engine, GradCam(), paths)
    assert len(first) == 0
    assert len(first.skipped) == 4
    assert second.paths == paths[4:]


def test_random_maps_are_uniform_cells(engine: Engine) -> None:
    x = torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    maps = RandomMap()(engine, engine.forward(x), torch.zeros(64, dtype=torch.int64))
    assert maps.cam is not None
    assert maps.cam.shape == (64, 8, 8)
    assert abs(float(maps.cam.mean()) - 0.5) < 0.02
    assert abs(float(maps.cam.std()) - (1 / 12) ** 0.5) < 0.02
    assert len({float(m) for m in maps.cam.mean((1, 2))}) == 64


class Sometimes(RandomMap):
    """Maps that are no numbers where an image's first pixel is bright."""

    def __call__(self, engine: Engine, seen: Forward, classes: torch.Tensor) -> Maps:
        maps = super().__call__(engine, seen, classes)
        maps.saliency[seen.x[:, 0, 0, 0] > 0.5] = float("nan")
        return maps


def test_a_map_that_is_no_number_is_skipped(engine: Engine, tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, 6)
    for i in (1, 4):
        Image.new("RGB", (40, 40), "white").save(paths[i])
    for i in (0, 2, 3, 5):
        Image.new("RGB", (40, 40), "black").save(paths[i])
    choice = ClassChoice((3, 1))
    batches = list(explain(engine, Sometimes(), paths, choice=choice, row_path=lambda p: p[-7:]))
    assert [path for b in batches for path in b.paths] == [
        paths[i][-7:] for i in (0, 2, 3, 5) for _ in range(2)
    ]
    assert [s.path for b in batches for s in b.skipped] == [paths[1], paths[4]]
    assert "random: its map is not finite" in batches[0].skipped[0].reason
    for batch in batches:
        batch.check()


def test_gradients_that_are_no_numbers_are_seen(tmp_path: Path) -> None:
    """And not drawn as a map of zeros."""
    backbone = tiny_backbone()
    with torch.no_grad():
        next(p for n, p in backbone.network.named_parameters() if n.endswith("bias"))[0] = 1e38
    engine = Engine(backbone, device="cpu", batch_size=4)
    (batch,) = explain(engine, GradCam(), write_pictures(tmp_path, 2))
    assert len(batch) == 0
    assert len(batch.skipped) == 2


@pytest.mark.parametrize("fault", ["raises", "shape"])
def test_a_faulty_plug_in_is_named(engine: Engine, tmp_path: Path, fault: str) -> None:
    class Faulty(RandomMap):
        name = "faulty"

        def __call__(self, engine: Engine, seen: Forward, classes: torch.Tensor) -> Maps:
            if fault == "raises":
                raise KeyError("mine")
            return Maps(torch.zeros(len(seen.x), 3, 3))

    told = {
        "raises": "the plug-in faulty failed: KeyError: 'mine'",
        "shape": r"faulty returns maps of shape \(2, 3, 3\), not \(2, 32, 32\)",
    }
    with pytest.raises(LcamError, match=told[fault]):
        next(explain(engine, Faulty(), write_pictures(tmp_path, 2)))
