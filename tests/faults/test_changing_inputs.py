"""Pictures that vanish, change or cannot be named while a run reads them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import pytest

from lcam_cli.images.find import find_images
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.images.stream import stream_batches
from tests.conftest import ROOT
from tests.faults.many import Commands
from tests.faults.processes import NETWORK, OWN, start, wait_for
from tests.tiny import write_pictures

SMALL = Preprocess(image_size=16, resize=20)
# A batch takes long enough that a run of two hundred cannot end before it is interrupted.
SLOW = """\
import time
from tests.tiny import tiny_network


def net():
    network = tiny_network()
    network.register_forward_pre_hook(lambda *_: time.sleep(0.01))
    return network
"""
EXPLAIN = ["explain", *NETWORK, "--method", "gradcam"]


def test_files_that_vanish_between_listing_and_reading(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "photos", 8)
    found = find_images([str(tmp_path / "photos")])
    Path(paths[2]).unlink()
    Path(paths[3]).write_bytes(b"")
    Path(paths[4]).unlink()
    Path(paths[4]).mkdir()
    Path(paths[5]).unlink()
    os.mkfifo(paths[5])
    Path(paths[6]).unlink()
    Path(paths[6]).symlink_to("/dev/zero")
    Path(paths[7]).unlink()
    Path(paths[7]).symlink_to(paths[7])
    batches = list(stream_batches(found.paths, SMALL, 4, workers=2))
    assert [i for batch in batches for i in batch.indices] == [0, 1]
    assert [s.reason for batch in batches for s in batch.skipped] == [
        "no such file",
        "empty file",
        "a folder, not an image",
        "not a regular file",
        "not a regular file",
        "too many levels of symbolic links",
    ]


def test_a_folder_that_changes_while_it_is_read(tmp_path: Path) -> None:
    """Every image of the listing is read or listed as skipped, in order, once."""
    folder = tmp_path / "photos"
    paths = write_pictures(folder, 200)
    found = find_images([str(folder)])
    stream = stream_batches(found.paths, SMALL, 10, workers=2)
    batches = [next(stream)]
    done = threading.Event()

    def meddle() -> None:
        for k in range(40, 200, 3):
            Path(paths[k]).unlink()
            (folder / f"new{k}.jpg").write_bytes(b"new")
            Path(paths[k + 1 if k < 199 else 41]).write_bytes(b"half a pic")
        done.set()

    thread = threading.Thread(target=meddle)
    thread.start()
    batches += stream
    thread.join()
    assert done.is_set()
    read = [found.paths[i] for batch in batches for i in batch.indices]
    skipped = [s.path for batch in batches for s in batch.skipped]
    assert sorted(read + skipped) == paths
    assert read == sorted(read)
    assert read[:10] == paths[:10]
    assert skipped


@pytest.mark.slow
def test_the_command_goes_on_and_lists_what_was_lost(tmp_path: Path, lcam: Commands) -> None:
    (tmp_path / "own.py").write_text(OWN)
    paths = write_pictures(tmp_path / "photos", 6)
    (tmp_path / "photos" / "x.jpg").symlink_to("nowhere.jpg")
    Path(paths[1]).write_bytes(Path(paths[1]).read_bytes()[:300])
    ended = lcam(tmp_path, [*EXPLAIN, "photos"])
    assert ended.code == 3
    assert "skipped photos/001.jpg: " in ended.err
    assert "skipped photos/x.jpg: no such file" in ended.err
    strict = lcam(tmp_path, [*EXPLAIN, "photos", "--out", "strict.h5", "--strict"])
    assert strict.code == 2
    assert "error: photos/001.jpg: " in strict.err


@pytest.mark.slow
def test_a_list_on_stdin_that_ends_early_or_names_rubbish(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    write_pictures(tmp_path / "photos", 3)
    # The source fails after half a path; another line is binary rubbish, one far too long.
    listing = b"photos/000.jpg\n\x00\xff\n" + b"a" * 100_000 + b"\nphotos/001.jpg\nphotos/00"
    (tmp_path / "list").write_bytes(listing)
    process = subprocess.Popen(
        ["sh", "-c", f"(cat list; exit 1) | {sys.executable} -m lcam_cli {' '.join(EXPLAIN)} -"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    assert err.count("warning: skipped") == 3
    assert "Traceback" not in err
    with h5py.File(tmp_path / "maps.h5") as file:
        assert [p.decode() for p in file["path"][:]] == ["000.jpg", "001.jpg"]


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_does_not_break_the_readers(tmp_path: Path, lcam: Commands) -> None:
    """The signal reaches the whole group; the batch is finished, and the rest resumed."""
    (tmp_path / "own.py").write_text(SLOW)
    (tmp_path / "photos").mkdir()
    (original,) = write_pictures(tmp_path / "original", 1)
    for k in range(1500):
        os.link(original, tmp_path / "photos" / f"{k:04}.jpg")
    process = start(tmp_path, [*EXPLAIN, "photos", "--batch-size", "8"])
    wait_for(process, "explaining")
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "skipped" not in err
    with h5py.File(tmp_path / "maps.h5") as file:
        assert 0 < len(file["path"]) < 1500
    words = [*EXPLAIN, "photos", "--batch-size", "8"]
    assert lcam(tmp_path, [*words, "--resume"]).code == 0
    assert lcam(tmp_path, [*words, "--out", "whole.h5"]).code == 0
    with h5py.File(tmp_path / "maps.h5") as broken, h5py.File(tmp_path / "whole.h5") as whole:
        for name in ("saliency", "path"):
            assert (broken[name][:] == whole[name][:]).all()
