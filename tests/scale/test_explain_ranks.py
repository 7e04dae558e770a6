"""``lcam explain`` by several ranks: the same rows in the same order as by one process."""

from __future__ import annotations

import itertools
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from torch import Tensor

from lcam_cli.__main__ import run
from lcam_cli.cli.app import lcam_app
from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.errors import LcamError
from lcam_cli.locks import lock_file
from lcam_cli.maps.hdf5.joining import join
from lcam_cli.maps.hdf5.reader import MapsFile
from lcam_cli.maps.hdf5.resuming import ReusablePart
from lcam_cli.methods.base import Maps
from lcam_cli.methods.gradient import GradCam
from tests.scale.starting import by_hand, torchrun, warm_torchrun
from tests.tiny import write_pictures

OWN = "from tests.tiny import tiny_network as net\n"
NETWORK = ["--backbone", "own.py:net", "--weights", "none", "--image-size", "32"]
EXPLAIN = ["explain", "photos", *NETWORK, "--method", "gradcam", "--batch-size", "4"]
EXPLAIN += ["--device", "cpu", "--workers", "1"]
MINUTE = 60.0
SHARDS = ["maps.from-0000000.h5", "maps.from-0000016.h5"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    write_pictures(tmp_path / "photos", 30)
    (tmp_path / "photos" / "007-bad.jpg").write_text("no picture")
    return tmp_path


def lcam(*words: str) -> int:
    return run(lcam_app(), list(words))


def assert_same(path: Path, whole: Path) -> None:
    with MapsFile(path) as maps, MapsFile(whole) as expected:
        assert maps.complete
        assert maps.skipped == expected.skipped
        assert maps.info.difference(expected.info) == ""
        assert maps.paths() == expected.paths()
        ours, theirs = maps.rows(0, len(maps)), expected.rows(0, len(expected))
    np.testing.assert_array_equal(ours.saliency, theirs.saliency)
    np.testing.assert_array_equal(ours.cam, theirs.cam)
    np.testing.assert_array_equal(ours.confidence, theirs.confidence)
    assert ours.class_names == theirs.class_names


@pytest.mark.slow
def test_two_ranks_write_what_one_process_writes(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert lcam(*EXPLAIN, "--out", "whole.h5") == 3
    agent = warm_torchrun(folder, [*EXPLAIN, "--overlays", "drawn"], 2)
    out, err = agent.communicate()
    assert out == "30 maps in maps.h5\n", err
    assert err.count("skipped photos/007-bad.jpg") == 1
    assert "explain: 31/31 images" in err
    assert_same(folder / "maps.h5", folder / "whole.h5")
    assert len(list((folder / "drawn").glob("*.png"))) == 30
    with h5py.File(folder / "maps.h5", locking=False) as file:
        assert file["saliency"].is_virtual
        assert sorted(s.file_name for s in file["saliency"].virtual_sources()) == [
            "maps.from-0000000.h5",
            "maps.from-0000016.h5",
        ]
    # One plain file of it, which needs the shards no more.
    assert lcam("merge", "plain.h5", "maps.h5") == 0
    assert lcam(*EXPLAIN) == 2
    assert "maps.h5 exists" in capfd.readouterr().err
    assert lcam(*EXPLAIN, "--resume") == 3
    assert "already complete" in capfd.readouterr().err
    for shard in folder.glob("maps.from-*.h5"):
        shard.unlink()
    assert_same(folder / "plain.h5", folder / "whole.h5")
    assert lcam("evaluate", "maps.h5") == 2
    assert "maps.from-0000000.h5, which is missing" in capfd.readouterr().err


def _cut(shard: Path, rows: int) -> None:
    """Make a shard as a kill leaves it: with so many rows flushed."""
    with h5py.File(shard, "r+", locking=False) as file:
        file.attrs.modify("complete", np.bool_(False))
        for name in file:
            if name not in ("skipped", "classes"):
                file[name].resize(rows, axis=0)


def test_one_process_finishes_what_shards_have_begun(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """And nothing that they hold is made again."""
    assert lcam(*EXPLAIN, "--out", "whole.h5") == 3
    for index in range(2):
        assert lcam(*EXPLAIN, "--shard", f"{index}/2") in (0, 3)
    first, second = folder / "maps.from-0000000.h5", folder / "maps.from-0000016.h5"
    (folder / "maps.0-of-2.h5").rename(first)
    (folder / "maps.1-of-2.h5").rename(second)
    # 16 images with the unreadable one; of 9 rows the first two batches of four are whole.
    _cut(first, 9)
    with h5py.File(first, "r+", locking=False) as file:
        file["saliency"][0] = 0.5  # to be found again
        file["saliency"][8] = 0.25  # and not
    assert lcam(*EXPLAIN) == 2
    assert "maps.from-0000000.h5 exists" in capfd.readouterr().err
    assert lcam(*EXPLAIN, "--resume", "--fit", "squash") == 2
    assert "holds other maps" in capfd.readouterr().err
    assert lcam(*EXPLAIN, "--resume") == 3
    with MapsFile(folder / "maps.h5") as maps:
        assert [(path.name, first, last) for path, first, last in maps.shards] == [
            (first.name, 0, 6),
            ("maps.from-0000008.h5", 7, 14),
            (second.name, 15, 29),
        ]
        assert (maps.rows(0, 1).saliency == 0.5).all()
    with h5py.File(first, "r+", locking=False) as file, h5py.File("whole.h5") as whole:
        file["saliency"][0] = whole["saliency"][0]
    assert_same(folder / "maps.h5", folder / "whole.h5")
    assert lcam(*EXPLAIN, "--overwrite") == 3
    assert_same(folder / "maps.h5", folder / "whole.h5")
    assert len(list(folder.glob("maps.from-*.h5"))) <= 1


def begin_shards(*words: str, count: int = 1) -> None:
    """Leave the first ``count`` of two shards, as ranks that were killed leave them."""
    for index, shard in enumerate(SHARDS[:count]):
        assert lcam(*EXPLAIN, *words, "--shard", f"{index}/2") in (0, 3)
        Path(f"maps.{index}-of-2.h5").rename(shard)


def test_shards_of_another_map_dtype_are_refused(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """HDF5 would cast the ones of float16 to zeros of uint8."""
    begin_shards("--map-dtype", "uint8")
    assert lcam(*EXPLAIN, "--resume") == 2
    told = capfd.readouterr().err
    assert "maps.from-0000000.h5 holds other maps: map dtype is 'uint8', not 'float16'" in told
    assert not (folder / "maps.h5").exists()


def test_what_kept_shards_left_out_is_told_and_counted(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "photos" / "030-bad.jpg").write_text("no picture")
    (folder / "broken.tar").write_bytes(b"no tar" * 100)
    begin_shards("broken.tar")
    words = [*EXPLAIN, "broken.tar", "--resume"]
    for said in ("30 maps in maps.h5", "already complete"):
        capfd.readouterr()
        assert lcam(*words) == 3
        told = "".join(capfd.readouterr())
        assert said in told
        for bad in ("photos/007-bad.jpg", "photos/030-bad.jpg", "broken.tar"):
            assert told.count(f"skipped {bad}: ") == 1, bad
        assert "3 of the inputs could not be read" in told
    assert lcam(*words, "--strict") == 2
    assert "broken.tar: " in capfd.readouterr().err


@contextmanager
def dies_after(batches: int) -> Iterator[None]:
    """Let GradCAM fail in the batch behind so many."""
    batch = itertools.count()

    def fails(self: GradCam, engine: Engine, seen: Forward, classes: Tensor) -> Maps:
        if next(batch) == batches:
            raise LcamError("no luck", "")
        return explained(self, engine, seen, classes)

    explained = GradCam.__call__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GradCam, "__call__", fails)
        yield


@pytest.mark.parametrize("old", ["joined", "plain"])
def test_a_finished_run_stays_until_the_new_one_is_whole(
    folder: Path, capfd: pytest.CaptureFixture[str], old: str
) -> None:
    assert lcam(*EXPLAIN, "--out", "whole.h5") == 3
    assert lcam(*EXPLAIN, "--out", "squashed.h5", "--fit", "squash") == 3
    if old == "plain":
        shutil.copy("whole.h5", "maps.h5")
    else:
        begin_shards()
        assert lcam(*EXPLAIN, "--resume") == 3
    there = set(folder.glob("maps.from-*.h5"))
    anew = [*EXPLAIN, "--fit", "squash"]
    for batches in (0, 2):
        if old == "plain":  # as ranks would, who need no shard to begin with
            begin_shards()
        with dies_after(batches):
            assert lcam(*anew, "--overwrite") == 2
        assert "no luck" in capfd.readouterr().err
        assert_same(folder / "maps.h5", folder / "whole.h5")
    # Of the old shards, those that maps.h5 joins; and one of the new run, with two batches.
    new = folder / "maps.from-0000000.2.h5"
    assert set(folder.glob("maps.from-*.h5")) == {*there, new}
    with dies_after(6):  # of the eight, two of which are kept
        assert lcam(*anew, "--resume") == 3
    assert_same(folder / "maps.h5", folder / "squashed.h5")
    assert {path.name for path in folder.glob("maps.from-*.h5")} == {
        "maps.from-0000000.2.h5",
        "maps.from-0000008.2.h5",
    }
    # Killed before it removed what it had replaced.
    shutil.copy("whole.h5", "maps.from-0000000.h5")
    capfd.readouterr()
    assert lcam(*anew, "--resume") == 3
    assert "already complete" in capfd.readouterr().err
    assert not (folder / "maps.from-0000000.h5").exists()
    assert_same(folder / "maps.h5", folder / "squashed.h5")
    # And so on.
    assert lcam(*EXPLAIN, "--overwrite") == 3
    assert_same(folder / "maps.h5", folder / "whole.h5")
    assert [path.name for path in folder.glob("maps.from-*.h5")] == ["maps.from-0000000.3.h5"]


def test_a_folder_in_the_place_of_the_file_is_refused_at_once(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    begin_shards()
    (folder / "maps.h5").mkdir()
    for option in ("--overwrite", "--resume"):
        assert lcam(*EXPLAIN, option) == 2
        assert "maps.h5 is a folder" in capfd.readouterr().err
    assert (folder / SHARDS[0]).exists()


def test_a_joined_file_does_not_show_a_later_run(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    begin_shards()
    assert lcam(*EXPLAIN, "--resume") == 3
    (folder / "maps.h5").rename("best.h5")
    other = [word if word != "gradcam" else "random" for word in EXPLAIN]
    assert lcam(*other, "--overwrite") == 3
    for words in (["evaluate", "best.h5", "--nu", "50"], ["merge", "plain.h5", "best.h5"]):
        capfd.readouterr()
        assert lcam(*words) == 2
        told = capfd.readouterr().err
        assert "best.h5 joins maps.from-0000000.h5, which has been rewritten since" in told
    assert not (folder / "plain.h5").exists()


def test_rows_of_two_types_are_not_joined(folder: Path) -> None:
    begin_shards("--map-dtype", "uint8")
    assert lcam(*EXPLAIN, "--shard", "1/2") == 0
    kept = [
        ReusablePart(folder / SHARDS[0], range(16), 15, []),
        ReusablePart(folder / "maps.1-of-2.h5", range(16, 31), 15, []),
    ]
    with pytest.raises(LcamError, match=r"/saliency is float16 in .*, and uint8 in"):
        join(folder / "maps.h5", kept)
    assert not (folder / "maps.h5").exists()


def test_ranks_go_on_with_what_one_process_began(folder: Path) -> None:
    assert lcam(*EXPLAIN, "--out", "whole.h5") == 3
    assert lcam(*EXPLAIN) == 3
    _cut(folder / "maps.h5", 13)
    agent = warm_torchrun(folder, [*EXPLAIN, "--resume"], 2)
    _, err = agent.communicate()
    assert len(list(folder.glob("maps.from-*.h5"))) == 3, err
    assert_same(folder / "maps.h5", folder / "whole.h5")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("lost", [0, 1])
def test_without_torchrun_none_waits_for_a_rank_that_died_or_hangs(
    folder: Path, number: signal.Signals, lost: int
) -> None:
    # RISE has thousands of passes an image: on no machine is the other done before it looks.
    write_pictures(folder / "photos", 200, seed=1)
    ranks = by_hand(folder, [*EXPLAIN, "--method", "rise"], 2)
    victim, other = ranks[lost], ranks[1 - lost]
    while len(list(folder.glob("maps.from-*.h5"))) < 2:
        assert victim.poll() is None
        assert other.poll() is None
        time.sleep(0.05)
    victim.send_signal(number)
    began = time.monotonic()
    if number == signal.SIGKILL:
        victim.communicate()
    _, err = other.communicate(timeout=2 * MINUTE)
    seconds = time.monotonic() - began
    print(f"ended after {seconds:.1f} s: {err.splitlines()[-2:]}")
    assert seconds < MINUTE
    assert other.returncode == 2, err
    assert f"rank {lost} (process {victim.pid} on" in err
    assert "--resume" in err
    if victim.poll() is None:
        victim.kill()
        victim.communicate()


def test_ranks_that_never_meet_give_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lcam_cli.errors import LcamError
    from lcam_cli.scale import ranks
    from lcam_cli.scale.rank_info import RankInfo
    from tests.scale.starting import free_port

    monkeypatch.setattr(ranks, "_SECONDS_TO_MEET", 2.0)
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    with (
        pytest.raises(LcamError, match="the 2 ranks could not connect"),
        ranks.together(RankInfo.of_environment(), "cpu"),
    ):
        pass


def test_what_is_not_for_ranks_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "x")
    assert lcam("evaluate", "maps.h5") == 2
    assert "do not say which rank" in capfd.readouterr().err
    monkeypatch.setenv("RANK", "1")
    assert lcam("evaluate", "maps.h5") == 2
    assert "one of 2" in capfd.readouterr().err
    assert lcam(*EXPLAIN, "--shard", "0/2") == 2
    assert "--shard cannot be used with torchrun" in capfd.readouterr().err


@pytest.mark.slow
def test_an_interrupt_saves_and_says_how_to_resume(folder: Path) -> None:
    write_pictures(folder / "photos", 3000, seed=1)
    agent = torchrun(folder, EXPLAIN, 2)
    while len(list(folder.glob("maps.from-*.h5"))) < 2:
        assert agent.poll() is None, agent.communicate()
        time.sleep(0.05)
    agent.send_signal(signal.SIGTERM)  # as a batch system does
    _, err = agent.communicate(timeout=MINUTE)
    assert "interrupted; finished maps are saved in maps.h5" in err
    assert "--resume" in err


@pytest.mark.slow
def test_ranks_keep_off_an_output_that_is_being_written(folder: Path) -> None:
    with lock_file(folder / "maps.h5"):
        ranks = by_hand(folder, EXPLAIN, 2)
        told = [rank.communicate(timeout=MINUTE)[1] for rank in ranks]
    assert "maps.h5 is being written by another run" in told[0]
    # The others are told by the first one, and do not wait for it.
    assert "rank 0 (process" in told[1]
    assert "is being written by another run" in told[1]
    assert [rank.returncode for rank in ranks] == [2, 2]


def test_several_gpus_are_told_of(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import torch

    from lcam_cli.cli.console import Console
    from lcam_cli.errors import LcamError
    from lcam_cli.runs.engine import note_unused_gpus
    from lcam_cli.scale.rank_info import RankInfo
    from lcam_cli.scale.ranks import device_of

    class Gpu:
        device = torch.device("cuda", 0)

    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    note_unused_gpus(Gpu(), RankInfo(), "explain", Console())  # type: ignore[arg-type]
    assert "1 of 4 GPUs" in (said := capfd.readouterr().err)
    assert "torchrun --nproc-per-node 4 -m lcam_cli explain" in said
    note_unused_gpus(Gpu(), RankInfo(1, 4, 1, 4), "explain", Console())  # type: ignore[arg-type]
    assert capfd.readouterr().err == ""
    assert device_of(RankInfo(6, 8, 2, 4), "auto") == "cuda:2"
    assert device_of(RankInfo(6, 8, 2, 4), "cuda") == "cuda:2"
    assert chosen == [2, 2]
    assert device_of(RankInfo(), "cuda:3") == "cuda:3"
    assert device_of(RankInfo(1, 2, 1, 2), "cpu") == "cpu"
    with pytest.raises(LcamError, match="5 ranks and 4 GPUs"):
        device_of(RankInfo(0, 5, 0, 5), "cuda")
    with pytest.raises(LcamError, match="one GPU for all"):
        device_of(RankInfo(0, 2, 0, 2), "cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert device_of(RankInfo(0, 2, 0, 2), "auto") == "cpu"
