from __future__ import annotations

import contextlib
import threading
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lcam_cli.images import ordered
from lcam_cli.images.find import find_images
from lcam_cli.images.preprocess import Preprocess, center_view, training_view
from lcam_cli.images.read import read_picture
from lcam_cli.images.request import Request, View
from lcam_cli.images.stream import Batch, stream_batches, stream_training

SMALL = Preprocess(image_size=16, resize=20)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Eleven files of different sizes; 3, 4, 5 and 9 cannot be read."""
    rng = np.random.default_rng(0)
    names = [str(tmp_path / f"{k}.png") for k in range(11)]
    for k, name in enumerate(names):
        if k in (3, 4, 5, 9):
            Path(name).write_text("no picture" if k % 2 else "")
        else:
            picture = rng.integers(0, 256, (20 + 3 * k, 60 - 4 * k, 3), np.uint8)
            Image.fromarray(picture).save(name)
    return names


def same(batch: Batch, other: Batch) -> bool:
    return (
        batch.indices == other.indices
        and batch.skipped == other.skipped
        and np.array_equal(batch.images, other.images)
        and np.array_equal(batch.crop_boxes, other.crop_boxes)
    )


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_hold_fixed_slices_less_the_unreadable(paths: list[str], workers: int) -> None:
    batches = list(stream_batches(paths, SMALL, 3, workers=workers))
    assert [batch.indices for batch in batches] == [[0, 1, 2], [], [6, 7, 8], [10]]
    assert [[s.path for s in batch.skipped] for batch in batches] == [
        [],
        paths[3:6],
        [],
        [paths[9]],
    ]
    assert batches[1].skipped[0].reason.startswith("not an image")
    assert batches[1].skipped[1].reason == "empty file"
    assert batches[1].images.shape == (0, 16, 16, 3)
    for batch in batches:
        assert (batch.images.dtype, batch.crop_boxes.dtype) == (np.uint8, np.float32)
        assert batch.crop_boxes.shape == (len(batch.indices), 4)
        for index, image, box in zip(batch.indices, batch.images, batch.crop_boxes, strict=True):
            view, crop = center_view(read_picture(paths[index]), SMALL)
            np.testing.assert_array_equal(image, view)
            np.testing.assert_allclose(box, crop, rtol=1e-6)
        originals = [read_picture(paths[index]).size for index in batch.indices]
        assert batch.sizes.tolist() == [list(size) for size in originals]


def test_a_resumed_run_makes_the_same_batches(paths: list[str]) -> None:
    whole = list(stream_batches(paths, SMALL, 3, workers=2))
    for k in range(4):
        rest = list(stream_batches(paths, SMALL, 3, workers=2, start=3 * k))
        assert len(rest) == len(whole) - k
        assert all(map(same, rest, whole[k:]))
    assert list(stream_batches(paths, SMALL, 3, workers=2, start=12)) == []


@pytest.mark.parametrize(
    "wrong",
    [{"start": 2}, {"start": -3}, {"workers": 0}, {"batch_size": 0}],
)
def test_wrong_arguments(paths: list[str], wrong: dict[str, int]) -> None:
    options: dict[str, Any] = {"batch_size": 3, "workers": 1} | wrong
    with pytest.raises(ValueError, match=next(iter(wrong))):
        stream_batches(paths, SMALL, **options)


def test_training_views_depend_on_seed_epoch_and_position_alone(paths: list[str]) -> None:
    order = [10, 0, 9, 7, 6, 1, 8, 2]

    def run(order: Sequence[int] = order, **options: int) -> list[Batch]:
        chosen: dict[str, Any] = {"seed": 1, "epoch": 2, "workers": 1, "flip": True} | options
        return list(stream_training(paths, SMALL, 3, order=order, **chosen))

    batches = run()
    assert [batch.indices for batch in batches] == [[10, 0], [7, 6, 1], [8, 2]]
    assert [s.path for s in batches[0].skipped] == [paths[9]]
    assert not any(batch.crop_boxes.any() for batch in batches)
    for batch in batches:
        for index, image in zip(batch.indices, batch.images, strict=True):
            rng = np.random.default_rng([1, 2, index])
            expected = training_view(read_picture(paths[index]), SMALL, rng, True)
            np.testing.assert_array_equal(image, expected)
    assert all(map(same, run(workers=3), batches))
    assert all(map(same, run(np.array(order)), batches))
    assert all(map(same, run(start_batch=1), batches[1:]))
    assert not same(run(epoch=3)[1], batches[1])
    assert not same(run(seed=3)[1], batches[1])


def readers() -> int:
    return sum(thread.name.startswith("lcam-read") for thread in threading.enumerate())


class FakeDecoder:
    """Stands for all processes: a grey view for every request, after a while; it counts them."""

    def __init__(self, delay: float = 0.0) -> None:
        self.delay, self.asked, self._lock = delay, 0, threading.Lock()
        self.killed = threading.Event()

    def read(self, request: Request) -> View:
        with self._lock:
            self.asked += 1
        self.killed.wait(self.delay)
        return View(np.full((16, 16, 3), 99, np.uint8), (0.0, 0.0, 20.0, 20.0), (20, 20))

    def kill(self) -> None:
        self.killed.set()


def lend(monkeypatch: pytest.MonkeyPatch, decoder: FakeDecoder) -> None:
    class Lent:
        read, kill = decoder.read, decoder.kill

    monkeypatch.setattr(ordered, "borrowed_decoder", lambda: contextlib.nullcontext(Lent()))


@pytest.mark.parametrize("end", ["close", "error"])
@pytest.mark.parametrize("delay", [0.1, 60.0])
def test_closing_early_ends_the_threads(
    monkeypatch: pytest.MonkeyPatch, paths: list[str], end: str, delay: float
) -> None:
    """An image that is nearly read is waited for; what takes longer is ended."""
    decoder = FakeDecoder()
    lend(monkeypatch, decoder)
    before = readers()
    batches = stream_batches(paths * 100, SMALL, 4, workers=2)
    next(batches)
    assert readers() == before + 2
    decoder.delay, decoder.asked = delay, 0
    next(batches)
    while decoder.asked < 2:
        time.sleep(0.01)
    begun = time.perf_counter()
    if end == "close":
        batches.close()
    else:
        with pytest.raises(KeyError):
            batches.throw(KeyError("the consumer failed"))
    assert time.perf_counter() - begun < (0.5 if delay < 1 else 1.5)
    assert readers() == before
    assert decoder.killed.is_set() == (delay > 1)


def test_never_far_ahead_of_the_consumer(monkeypatch: pytest.MonkeyPatch, paths: list[str]) -> None:
    decoder = FakeDecoder()
    lend(monkeypatch, decoder)
    batches = stream_batches(paths[:1] * 500, SMALL, 8, workers=3)
    for taken in range(1, 20):
        next(batches)
        time.sleep(0.005)  # time enough for threads to run away, could they
        assert 8 * taken <= decoder.asked <= 8 * taken + 2 * 8 + 3


def test_memory_does_not_grow_with_the_number_of_pictures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lend(monkeypatch, FakeDecoder())

    def peak(count: int) -> int:
        many = ["x"] * count
        tracemalloc.start()
        for _ in stream_batches(many, SMALL, 4, workers=2):
            pass
        high = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return high

    peak(50)
    assert peak(1500) < 1.5 * peak(300)


@pytest.mark.real
def test_real_photographs(real: Path) -> None:
    paths = find_images([str(real / "photos")]).paths[:30]
    batches = list(stream_batches(paths, Preprocess(), 8, workers=2))
    assert [index for batch in batches for index in batch.indices] == list(range(30))
    assert not any(batch.skipped for batch in batches)
