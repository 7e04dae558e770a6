"""What reaches stdout and stderr, on a terminal and elsewhere, and what signals do."""

from __future__ import annotations

import io
import os
import pty
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from lcam_cli.cli.console import Console, interruptible
from lcam_cli.cli.progress import Bar, PlainProgress, live_progress
from lcam_cli.reports.text import wrapped
from tests.cli.conftest import SAMPLE, Run, environment


def test_results_on_stdout_the_rest_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.result("1,2")
    console.info("i")
    console.warn("w")
    console.error("e", "h")
    out, err = capsys.readouterr()
    assert out == "1,2\n"
    assert err == "i\nwarning: w\nerror: e\nh\n"


def test_quiet_leaves_results_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(quiet=True)
    console.info("i")
    console.warn("w")
    with console.progress(2, "explain", "images") as progress:
        progress.advance(2)
    console.error("e")
    console.result("1")
    assert capsys.readouterr() == ("1\n", "error: e\n")


def test_plain_lines_come_now_and_then() -> None:
    now, out = 0.0, io.StringIO()
    progress = PlainProgress(650, "explain", "images", out, clock=lambda: now)
    for now in (4.0, 8.0, 12.0, 16.0, 20.0, 26.0):  # noqa: B007 - the clock reads it
        progress.advance(100)
    progress.advance(50)
    progress.close()
    assert out.getvalue().splitlines() == [
        "explain: 300/650 images, 25.0 images/s, 0:14 left",
        "explain: 600/650 images, 23.1 images/s, 0:02 left",
        "explain: 650/650 images, 25.0 images/s, 0:26 in all",
    ]


def test_long_times_have_hours() -> None:
    now, out = 0.0, io.StringIO()
    progress = PlainProgress(1000, "x", "images", out, clock=lambda: now)
    now = 3723.0
    progress.close()
    assert "1:02:03 in all" in out.getvalue()


def test_progress_in_a_pipe_has_no_control_codes(process: Run) -> None:
    err = process("act", "progress").stderr
    assert err.splitlines()[0] == "[bold]in between[/bold]"
    assert err.splitlines()[1].startswith("explain: 3/3 images, ")
    assert err.splitlines()[1].endswith(", loss 0.5 [red]")
    assert err.splitlines()[2:] == ["done", "after it"]
    assert "\x1b" not in err
    assert "\r" not in err


def on_terminal(*args: str) -> str:
    """Run the sample app with stderr on a pseudo-terminal; return what it wrote there."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*SAMPLE, *args],
        env=environment(TERM="xterm", COLUMNS="100"),
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        written = b""
        try:
            while piece := os.read(ours, 4096):
                written += piece
        except OSError:  # the other side closed
            pass
        assert process.wait(timeout=30) == 0
    os.close(ours)
    return written.decode()


def test_progress_on_a_terminal_is_a_bar_and_notes_stay_whole() -> None:
    written = on_terminal("act", "progress")
    assert "3/3" in written
    assert "\x1b[" in written
    assert "[bold]in between[/bold]" in written
    assert "loss 0.5 [red]" in written


def test_a_terminal_shows_that_a_command_is_at_work_before_its_bar_and_not_after_its_result() -> (
    None
):
    written = on_terminal("act", "progress")
    spins = [at.start() for at in re.finditer("loading PyTorch", written)]
    assert spins[0] < written.index("3/3")
    assert written.endswith("after it\r\n")


def test_many_names_leave_room_for_the_bar() -> None:
    with live_progress("images") as display:
        for what in ("explain", "cam, gradcam, random", "gradcam, gradcam++, xgradcam, random"):
            Bar(display, 3, what)
        shown = [task.description for task in display.tasks]
    assert shown == ["explain", "cam, gradcam, random", "gradcam and 3 more"]


def test_lines_are_broken_between_words() -> None:
    line = "  overlays are darker outside the crop; use --fit pad to show it all"
    assert wrapped(line, 40) == [
        "  overlays are darker outside the crop;",
        "  use --fit pad to show it all",
    ]
    assert wrapped(line, None) == wrapped(line, 80) == [line]
    assert wrapped("gradients averaged to weights", 24, "gradcam  ") == [
        "gradcam  gradients",
        "         averaged to",
        "         weights",
    ]
    assert wrapped("see " + 30 * "x", 20) == ["see", 30 * "x"], "a path stays whole"


def test_quiet_shows_no_spinner() -> None:
    assert on_terminal("act", "progress", "--quiet") == ""


@pytest.mark.parametrize(
    "env",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LANG": "C", "LC_ALL": ""},
        {"PYTHONIOENCODING": "utf-8"},
    ],
)
def test_any_file_name_prints_in_any_locale(process: Run, env: dict[str, str]) -> None:
    done = process("act", "print", b"caf\xe9.png", "é.png", env=env)
    assert done.returncode == 0
    assert "caf\\udce9.png" in done.stdout
    assert "caf\\udce9.png" in done.stderr


def test_a_table_in_a_pipe_is_neither_cut_nor_folded(process: Run) -> None:
    assert "é" * 100 in process("act", "table").stdout
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = process("act", "table", env=plain)
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_to_stop(number: signal.Signals, tmp_path: Path) -> None:
    with subprocess.Popen(
        [*SAMPLE, "act", "wait"], env=environment(), cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("ready")
        process.send_signal(number)
        assert process.stderr.read() == "saved\n"
        assert process.wait(timeout=30) == 130


def test_the_second_ctrl_c_ends_it(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*SAMPLE, "act", "wait-deaf"],
        env=environment(),
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptible() as interrupt:
        assert not interrupt.stop
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.stop
        assert signal.getsignal(signal.SIGINT) is before
    assert signal.getsignal(signal.SIGINT) is before


def test_what_every_rank_would_say_is_told_by_the_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for follows in (False, True):
        Console(follows=follows).warn("the same", once=True)
        Console(follows=follows).warn("its own")
    assert capsys.readouterr().err.splitlines() == [
        "warning: the same",
        "warning: its own",
        "warning: its own",
    ]
