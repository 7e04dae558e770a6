"""A decoder that crashes, hangs or chatters loses its own image and nothing else."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lcam_cli.errors import BadImageError, LcamError
from lcam_cli.images import decoder as module
from lcam_cli.images.decoder import Decoder, borrowed_decoder, read_whole
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.images.read import read_picture
from lcam_cli.images.request import Request
from lcam_cli.images.stream import stream_batches
from tests.conftest import ROOT
from tests.images.harm import spoil_decoders

SMALL = Preprocess(image_size=16, resize=20)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No process of another test is lent in this one, nor the other way round."""
    monkeypatch.setattr(module, "_idle", [])
    yield
    for decoder in module._idle:
        decoder.close()


@pytest.fixture
def harmful(fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where images do harm if they are called crash, hang, …"""
    monkeypatch.setenv("PYTHONPATH", spoil_decoders(tmp_path / "harm"))
    folder = tmp_path / "pictures"
    folder.mkdir()
    return folder


def picture(path: Path, size: tuple[int, int] = (40, 30)) -> str:
    noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    Image.fromarray(noise).save(path)
    return str(path)


def children() -> set[str]:
    """Ids of the processes that this one has started."""
    tasks = Path("/proc/self/task").iterdir()
    return {pid for task in tasks for pid in (task / "children").read_text().split()}


def test_views_are_those_of_this_process(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png", (60, 43))
    with borrowed_decoder() as decoder:
        for request in (
            Request(path),
            Request(path, preprocess=SMALL),
            Request(path, preprocess=SMALL, seeds=(1, 2, 3), flip=True),
        ):
            pixels, box, size = decoder.read(request)
            expected, expected_box, expected_size = request.view()
            np.testing.assert_array_equal(pixels, expected)
            assert box == expected_box
            assert size == expected_size == (60, 43)
    whole = read_whole(path, max_pixels=60 * 43)
    assert whole.mode == "RGB"
    np.testing.assert_array_equal(np.array(whole), np.array(read_picture(path)))
    with pytest.raises(BadImageError, match="too many pixels: 60 × 43"):
        read_whole(path, max_pixels=60 * 43 - 1)


@pytest.mark.skipif(sys.platform == "darwin", reason="that file system takes UTF-8 names only")
def test_any_path_survives_the_way_there(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 \n \xe7\x8c\xab '\"\\.png")
    with open(path, "wb") as file:  # noqa: PTH123 (pathlib has no bytes)
        Image.new("RGB", (9, 9)).save(file, "PNG")
    assert read_whole(path, 81).size == (9, 9)


def test_harmful_pictures_are_lost_and_no_others(
    harmful: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 3.0)
    names = ("a", "crash", "b", "hang", "c", "greedy", "crash2", "crash3", "d", "chatter", "e")
    paths = [picture(harmful / f"{name}.png") for name in names]
    batches = list(stream_batches(paths, SMALL, 4, workers=2))
    reasons = {Path(s.path).stem: s.reason for batch in batches for s in batch.skipped}
    assert reasons == {
        "crash": "its decoder crashed (SIGSEGV)",
        "crash2": "its decoder crashed (SIGSEGV)",
        "crash3": "its decoder crashed (SIGSEGV)",
        "hang": "its decoder hung and was stopped after 3 s",
        "greedy": "not enough memory to decode it",
    }
    read = [names[i] for batch in batches for i in batch.indices]
    assert read == ["a", "b", "c", "d", "chatter", "e"]
    assert capfd.readouterr() == ("", "")
    assert len(module._idle) <= 2


def test_a_mistake_of_ours_is_not_taken_for_a_bad_picture(
    harmful: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LCAM_TEST_MISTAKE", "1")
    stream = stream_batches([picture(harmful / "a.png")], SMALL, 3, workers=2)
    with pytest.raises(RuntimeError, match="ZeroDivisionError: a mistake of ours"):
        next(stream)


def test_a_process_that_cannot_start_is_told_at_once(
    fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os; os._exit(7)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(LcamError, match=r"did not start \(exit code 7\)"):
        next(stream_batches(["a.png"], SMALL, 3, workers=2))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    with pytest.raises(LcamError, match="cannot start a process"):
        Decoder()


def test_a_process_that_dies_between_pictures_loses_none(fresh: None, tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    assert read_whole(path, 10**6)
    first = module._idle[0]._process
    first.kill()
    first.wait()
    assert read_whole(path, 10**6)
    assert module._idle[0]._process is not first


def test_processes_are_lent_again_and_start_quickly(fresh: None, tmp_path: Path) -> None:
    before = children()
    begun = time.perf_counter()
    path = picture(tmp_path / "a.png")
    for _ in range(3):
        assert sum(len(b.indices) for b in stream_batches([path] * 20, SMALL, 4, workers=2)) == 20
    assert time.perf_counter() - begun < 10
    assert len(children() - before) <= 2


def test_paths_are_relative_to_where_the_caller_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "three"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        picture(Path("a.png"), (10, len(name)))
        assert read_whole("a.png", 10**6).size == (10, len(name))
    assert read_whole("../one/a.png", 10**6).size == (10, 3)


def test_nothing_is_imported_from_the_folder_it_starts_in(
    fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("numpy.py", "json.py", "PIL.py", "lcam_cli.py"):
        (tmp_path / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    path = picture(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    assert read_whole(path, 10**6).size == (40, 30)
    assert not (tmp_path / "ran").exists()


_READS = """
import os, sys, time
from lcam_cli.images import decoder
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.images.stream import stream_batches
stream = stream_batches(sys.argv[1:], Preprocess(image_size=16, resize=20), 1, workers=2)
next(stream)
print(*(d._process.pid for d in decoder._idle), flush=True)
print(sum(len(batch.indices) for batch in stream), flush=True)
"""


def _start_reader(*paths: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _READS, *paths],
        env={**os.environ, "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{ROOT}"},
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def _alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _started_by(pid: int) -> list[str]:
    found: list[str] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread just ended
            found += (task / "children").read_text().split()
    return found


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
@pytest.mark.parametrize("busy", [False, True])
def test_processes_end_with_a_parent_that_is_killed(
    harmful: Path, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    """Also one that hangs in a decoder: it ends itself, a while after the time an image may take.

    Here that while is cut short, from outside the program.
    """
    paths = [picture(harmful / name) for name in ("a.png", *(["hang.png"] if busy else []))]
    harm = harmful.parent / "harm" / "sitecustomize.py"
    shorter = "if sys.argv[1][:1] == '[':  # a reading process\n    sys.argv[2] = '1.5'\n"
    harm.write_text(f"{harm.read_text()}\n{shorter}")
    parent = _start_reader(*paths)
    assert parent.stdout is not None
    parent.stdout.readline()
    workers = _started_by(parent.pid)
    assert 1 <= len(workers) <= 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while any(map(_alive, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_interrupt_of_the_whole_group_does_not_reach_them(fresh: None, tmp_path: Path) -> None:
    """Ctrl-C does not break the hand-over: the run decides what is finished."""
    path = picture(tmp_path / "a.png")
    with borrowed_decoder() as decoder:
        decoder.read(Request(path))
        assert os.getpgid(decoder._process.pid) != os.getpgid(0)
        view = decoder.read(Request(path)).pixels
        assert view.shape == (30, 40, 3)


def test_no_file_of_ours_is_left_open_for_them(fresh: None, tmp_path: Path) -> None:
    """A pipe end held by a sibling would keep a process from seeing its parent's death."""
    path = picture(tmp_path / "a.png")
    with borrowed_decoder() as first, borrowed_decoder() as second:
        first.read(Request(path))
        second.read(Request(path))
        ends = [
            set(map(os.readlink, Path(f"/proc/{d._process.pid}/fd").iterdir()))
            for d in (first, second)
        ]
    assert {e for e in ends[0] & ends[1] if e.startswith("pipe:")} == set()


def test_crashes_leave_no_core_dumps(fresh: None, tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    with borrowed_decoder() as decoder:
        decoder.read(Request(path))
        assert resource.prlimit(decoder._process.pid, resource.RLIMIT_CORE) == (0, 0)
        decoder._process.send_signal(signal.SIGABRT)
        decoder._process.wait()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc")
def test_memory_is_kept_between_pictures_unless_the_environment_says_other(
    fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert read_whole(picture(tmp_path / "a.png"), 10**6)
    process = module._idle[0]._process.pid
    given = Path(f"/proc/{process}/environ").read_text().split("\0")
    assert "MALLOC_TRIM_THRESHOLD_=131072" in given
    assert f"MALLOC_MMAP_THRESHOLD_={1 << 25}" in given
