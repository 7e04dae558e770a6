"""Two runs on one output: the second is refused; a dead one refuses nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from lcam_cli.__main__ import run
from lcam_cli.cli.app import lcam_app
from lcam_cli.errors import LcamError
from lcam_cli.locks import LOCK_NAME, lock_file, lock_folder
from tests.conftest import ROOT
from tests.tiny import write_pictures

Lock = Callable[[Path], AbstractContextManager[None]]

HOLDER = """
import sys
from pathlib import Path
from lcam_cli import locks
with getattr(locks, sys.argv[1])(Path(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def hold(lock: Lock, path: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, lock.__name__, path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


@pytest.mark.parametrize("lock", [lock_file, lock_folder])
def test_another_process_is_named_until_it_dies(folder: Path, lock: Lock) -> None:
    output = folder / "out"
    if lock is lock_folder:
        output.mkdir()
    (folder / "link").symlink_to("out")
    process = hold(lock, "link")
    with pytest.raises(LcamError, match=rf"out .* process {process.pid} on "), lock(output):
        pass
    process.kill()
    process.communicate()
    left = list(folder.rglob(f"*{LOCK_NAME}"))
    assert len(left) == 1, "the killed process could not remove it"
    with lock(output), pytest.raises(LcamError, match=f"process {os.getpid()} on "), lock(output):
        pass
    assert not left[0].exists()


def test_a_link_in_the_lock_files_place_is_not_written_through(folder: Path) -> None:
    (folder / "victim").write_text("kept")
    (folder / LOCK_NAME).symlink_to("victim")
    with pytest.raises(LcamError, match="cannot write"), lock_folder(folder):
        pass
    assert (folder / "victim").read_text() == "kept"


def test_runs_that_end_while_another_begins_never_overlap(folder: Path) -> None:
    """Many short runs: each counts on a number in a file that two at once would spoil."""
    code = """
import sys
from pathlib import Path
from lcam_cli.errors import LcamError
from lcam_cli.locks import lock_file
counter, done = Path("counter"), 0
while done < 100:
    try:
        with lock_file(counter):
            number = int(counter.read_text())
            counter.write_text(str(number + 1))
            done += 1
    except LcamError:
        pass
"""
    (folder / "counter").write_text("0")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    runs = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(3)]
    assert [process.wait(60) for process in runs] == [0, 0, 0]
    assert (folder / "counter").read_text() == "300"


BACKBONE = ("--backbone", "own.py:net", "--weights", "none", "--image-size", "32")


@pytest.mark.parametrize(
    ("words", "lock", "output"),
    [
        (["explain", "--method", "gradcam", "--out", "m.h5"], lock_file, "m.h5"),
        (["explain", "--method", "gradcam", "--out", "pngs"], lock_folder, "pngs"),
        (["explain", "--method", "gradcam", "--overlays", "drawn"], lock_folder, "drawn"),
        (["train", "--epochs", "1", "--out", "run"], lock_folder, "run"),
        (["compare", "--methods", "gradcam", "--out", "all.h5"], lock_file, "all.h5"),
        (["compare", "--methods", "gradcam", "--figure", "f.png"], lock_file, "f.png"),
    ],
)
def test_a_command_refuses_what_another_run_writes(
    folder: Path, capfd: pytest.CaptureFixture[str], words: list[str], lock: Lock, output: str
) -> None:
    (folder / "own.py").write_text("from tests.tiny import tiny_network as net\n")
    write_pictures(folder / "photos", 3)
    typed = [words[0], "photos", *words[1:], *BACKBONE]
    with lock(Path(output)):
        assert run(lcam_app(), typed) == 2
    err = capfd.readouterr().err
    assert f"{output} is being written by another run, process {os.getpid()} on" in err
    assert not (folder / "m.h5").exists()
    assert run(lcam_app(), typed) == 0
    assert not list(folder.rglob(f"*{LOCK_NAME}")), "locks go when a run ends"


def test_two_comparisons_do_not_share_their_state(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "own.py").write_text("from tests.tiny import tiny_network as net\n")
    write_pictures(folder / "photos", 3)
    typed = ["compare", "photos", "--methods", "gradcam", *BACKBONE]
    assert run(lcam_app(), typed) == 0
    (state,) = (folder / "runs" / "compare").iterdir()
    capfd.readouterr()
    with lock_folder(state):
        assert run(lcam_app(), typed) == 2
    assert f"process {os.getpid()}" in capfd.readouterr().err
