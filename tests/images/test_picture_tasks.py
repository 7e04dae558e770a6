"""Work on images whose views were read: by the process that kept them, in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lcam_cli.errors import BadImageError
from lcam_cli.images import decoder as module
from lcam_cli.images.kept import KeptPixels
from lcam_cli.images.picture_tasks import PictureTasks
from lcam_cli.images.pixels import Pixels
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.images.request import Keep
from lcam_cli.images.stream import stream_batches

SMALL = Preprocess(image_size=8, resize=8)
COUNT = 12


@dataclass(frozen=True)
class Describe:
    """Work that says which image it got, and where it was done."""

    def do(self, picture: Image.Image) -> str:
        first = picture.getpixel((0, 0))
        return f"{picture.mode} {picture.width} {first} {os.getpid()}"


class Fail:
    def do(self, picture: Image.Image) -> str:
        raise BadImageError(f"{picture.width} pixels are too wide")


class Crash:
    def do(self, picture: Image.Image) -> str:
        os._exit(7)


@pytest.fixture(autouse=True)
def own_processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "_idle", [])
    yield
    while module._idle:
        module._idle.pop().close()


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    names = [str(tmp_path / f"{k}.png") for k in range(COUNT)]
    for k, name in enumerate(names):
        mode, colour = ("L", k) if k % 3 == 0 else ("RGB", (k, 0, 0))
        Image.new(mode, (20 + k, 30), colour).save(name)
    return names


def said(k: int) -> str:
    grey = k if k % 3 == 0 else 0
    return f"RGB {20 + k} {(k, grey, grey)}"


def read_all(paths: list[str], tasks: PictureTasks, workers: int) -> None:
    for _ in stream_batches(paths, SMALL, 4, workers=workers, tasks=tasks):
        pass


@pytest.mark.parametrize("workers", [1, 2])
def test_kept_pictures_are_not_read_again(paths: list[str], workers: int) -> None:
    tasks = PictureTasks(SMALL, 10**6, workers)
    read_all(paths, tasks, workers)
    for path in paths:
        Path(path).unlink()
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda path: tasks.do(path, Describe()), paths))
    assert [one.rpartition(" ")[0] for one in results] == [said(k) for k in range(COUNT)]
    assert len({one.rpartition(" ")[2] for one in results}) <= workers
    with pytest.raises(BadImageError, match="no such file"):  # each is kept for one task
        tasks.do(paths[0], Describe())


def test_work_while_others_are_read(tmp_path: Path) -> None:
    names = [str(tmp_path / f"{k}.png") for k in range(50)]
    for k, name in enumerate(names):
        Image.new("RGB", (20 + k, 30), (k, 0, 1)).save(name)
    tasks = PictureTasks(SMALL, 10**6, 2)
    with ThreadPoolExecutor(2) as pool:
        waiting = []
        for batch in stream_batches(names, SMALL, 4, workers=2, tasks=tasks):
            waiting += [pool.submit(tasks.do, names[i], Describe()) for i in batch.indices]
        results = [one.result() for one in waiting]
    wanted = [f"RGB {20 + k} {(k, 0, 1)}" for k in range(50)]
    assert [one.rpartition(" ")[0] for one in results] == wanted
    assert len(module._idle) <= 2, "no more processes than were asked for"


def test_without_room_or_process_it_is_read_again(
    paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lcam_cli.images.picture_tasks._ROOM", 4 * 20 * 30)
    tasks = PictureTasks(SMALL, 10**6, 1)
    read_all(paths, tasks, 1)
    assert tasks.do(paths[5], Describe()).startswith(said(5))
    Path(paths[0]).unlink()
    assert tasks.do(paths[0], Describe()).startswith(said(0)), "the first had room"
    tasks = PictureTasks(SMALL, 10**6, 1)
    read_all(paths[1:], tasks, 1)
    with pytest.raises(BadImageError, match="crashed"):
        tasks.do(paths[1], Crash())
    assert tasks.do(paths[2], Describe()).startswith(said(2))


def test_what_nobody_asks_for_is_let_go(paths: list[str]) -> None:
    tasks = PictureTasks(SMALL, 10**6, 1)
    read_all(paths, tasks, 1)
    first = tasks.first_of([paths[8], paths[6], "never read"])
    assert first == tasks.first_of([paths[6]])
    assert first is not None
    tasks.forget_before(first)
    assert tasks.first_of(paths[:6]) is None
    for path in paths:
        Path(path).unlink()
    assert tasks.do(paths[6], Describe()).startswith(said(6))
    with pytest.raises(BadImageError, match="no such file"):
        tasks.do(paths[5], Describe())


def test_many_threads_wait_for_the_same_process(paths: list[str]) -> None:
    """Whichever waits, for one process or for any, is woken; a crash wakes all of them."""
    tasks = PictureTasks(SMALL, 10**6, 2)
    read_all(paths, tasks, 2)
    with ThreadPoolExecutor(2 * COUNT) as pool:
        crash = pool.submit(tasks.do, paths[0], Crash())
        waiting = [pool.submit(tasks.do, path, Describe()) for path in paths[1:]]
        read = pool.submit(read_all, paths, PictureTasks(SMALL, 10**6, 2), 2)
        with pytest.raises(BadImageError, match="crashed"):
            crash.result(30)
        results = [one.result(30) for one in waiting]
        read.result(30)
    assert [one.rpartition(" ")[0] for one in results] == [said(k) for k in range(1, COUNT)]


def test_work_that_cannot_be_done_says_why(paths: list[str]) -> None:
    tasks = PictureTasks(SMALL, 10**6, 1)
    read_all(paths, tasks, 1)
    with pytest.raises(BadImageError, match="23 pixels are too wide"):
        tasks.do(paths[3], Fail())
    assert tasks.do(paths[4], Describe()).startswith(said(4))


def test_an_earlier_run_leaves_no_picture_to_a_later(paths: list[str]) -> None:
    """Processes live on between runs, and so does what an interrupted run had them keep."""
    read_all(paths, PictureTasks(SMALL, 10**6, 1), 1)
    tasks = PictureTasks(SMALL, 10**6, 1)
    read_all(paths[::-1], tasks, 1)
    results = [tasks.do(path, Describe()) for path in paths]
    assert [one.rpartition(" ")[0] for one in results] == [said(k) for k in range(COUNT)]


def picture(width: int) -> Pixels:
    return Pixels.of(Image.fromarray(np.zeros((10, width, 3), np.uint8)))


def test_what_is_kept_is_bounded_and_let_go() -> None:
    kept = KeptPixels()
    for number in range(5):
        kept.add(Keep(number, room=4 * 10 * 30), picture(10))
    assert kept.take(Keep(3)) is None, "three have room"
    assert kept.take(Keep(2, oldest=2)) is not None
    assert kept.take(Keep(1)) is None, "forgotten with those before 2"
    kept.add(Keep(7, room=4 * 10 * 30), picture(30))
    assert kept.take(Keep(7)) is not None
    kept.add(Keep(8, room=10**6), picture(10))
    kept.add(None, picture(10))
    assert kept.take(None) is None
    assert kept.take(Keep(8)) is not None
