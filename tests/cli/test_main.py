"""How a run ends: exit codes, error lines, no tracebacks, no torch for nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from lcam_cli import __version__
from lcam_cli.cli.app import lcam_app
from tests.cli.conftest import SAMPLE, Run, environment
from tests.conftest import ROOT


def test_version(process: Run) -> None:
    done = process("--version")
    assert (done.returncode, done.stdout) == (0, f"lcam {__version__}\n")


def test_nothing_typed_asks_for_help(lcam: Run) -> None:
    done = lcam()
    assert done.returncode == 0
    assert done.stdout == lcam("--help").stdout
    assert "train" in done.stdout


def test_help_of_a_command_lists_options_and_defaults_without_control_codes(lcam: Run) -> None:
    text = lcam("train", "--help").stdout
    for words in ("--epochs", "default: 7", "--nu", "100,50,15", "--batch-size", "auto|N"):
        assert words in text
    assert "\x1b" not in text
    assert "LCAM_TRAIN" not in text


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["trian"], ["'trian'", "'train'"]),
        (["train", "--epohcs", "3"], ["--epohcs", "did you mean --epochs?", "lcam train --help"]),
        (["--quite", "train"], ["--quite", "--quiet", "lcam --help"]),
        (["train", "--epochs"], ["--epochs"]),
        (["train", "--epochs", "x"], ["--epochs", "'x'"]),
        (["train", "--epochs", "0"], ["--epochs", "0"]),
        (["train", "--device", "gpu"], ["--device", "'gpu'", "cuda:N"]),
        (["train", "--device", "cpu:1"], ["'cpu:1'"]),
        (["train", "--device", "cuda:x"], ["'cuda:x'"]),
        (["train", "--precision", "fp8"], ["'fp8'", "bf16"]),
        (["train", "--batch-size", "0"], ["'0'", "auto"]),
        (["train", "--nu", "50,abc"], ["--nu", "'abc'"]),
        (["train", "--nu", "0"], ["--nu", "0"]),
        (["train", "--mean", "1,x"], ["--mean", "'1,x'"]),
        (["train", "a", "b"], ["b"]),
        (["act"], ["Missing argument"]),
    ],
)
def test_wrong_usage_is_told_in_two_lines(lcam: Run, args: list[str], told: list[str]) -> None:
    done = lcam(*args)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 2
    for words in told:
        assert words in done.stderr


def test_an_error_is_two_lines_and_names_from_outside_do_no_harm(lcam: Run) -> None:
    done = lcam("act", "lcam-error")
    assert done.returncode == 2
    assert done.stderr == "error: no such\\nimage 'a\\x1b[31m.png'\nlook again\n"


@pytest.mark.parametrize("how", ["lcam-error", "bug"])
@pytest.mark.parametrize("args", [["--debug", "act"], ["act", "--debug"]])
def test_debug_adds_the_traceback(lcam: Run, how: str, args: list[str]) -> None:
    assert "Traceback" not in lcam("act", how).stderr
    assert "Traceback" in lcam(*args, how).stderr


def test_a_bug_is_told_in_two_lines(lcam: Run) -> None:
    done = lcam("act", "bug")
    assert done.returncode == 2
    assert "RuntimeError: boom" in done.stderr
    assert "--debug" in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_exit_codes_of_commands_are_kept(process: Run) -> None:
    assert process("act", "exit-3").returncode == 3
    assert process("act", "ctrl-c").returncode == 130


@pytest.mark.parametrize("args", [["--quiet", "train"], ["train", "--quiet"], ["train", "-q"]])
def test_quiet_before_or_after_the_command(lcam: Run, args: list[str]) -> None:
    assert lcam("train").stderr == "a note\n"
    assert lcam(*args).stderr == ""


def test_quiet_from_the_environment(lcam: Run) -> None:
    assert lcam("train", env={"LCAM_QUIET": "1"}).stderr == ""
    assert lcam("train", env={"LCAM_TRAIN_QUIET": "1"}).stderr == ""


def test_torch_is_not_imported(process: Run) -> None:
    assert process("act", "torch").stdout == "False\n"


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    run = subprocess.Popen(
        [*SAMPLE, "act", "flood"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert run.stdout is not None
    assert run.stderr is not None
    run.stdout.read(10)
    run.stdout.close()
    assert run.stderr.read() == b""
    assert run.wait(timeout=30) == 0
    run.stderr.close()


def test_the_commands_of_lcam_and_their_variables() -> None:
    group = typer.main.get_command(lcam_app())
    commands = group.commands  # type: ignore[attr-defined]
    names = ["train", "explain", "evaluate", "compare", "methods"]
    names += ["sanity", "diagnose", "merge", "info", "clean", "demo"]
    assert list(commands) == names
    for name, command in commands.items():
        assert command.help
        for param in command.params:
            option = max((o for o in param.opts), key=len).lstrip("-").replace("-", "_")
            assert param.envvar == f"LCAM_{name}_{option}".upper()
            assert param.help, f"{name}: {option} has no help"


def test_ctrl_c_after_all_is_done_changes_nothing() -> None:
    """Python still puts away what it has loaded, which takes long with torch."""
    late = "import atexit, os, signal, sys; from lcam_cli.__main__ import main\n"
    late += "atexit.register(os.kill, os.getpid(), signal.SIGINT)\n"
    late += "sys.argv = ['lcam', '--version']; main()"
    ended = subprocess.run(
        [sys.executable, "-c", late], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("lcam ")


@pytest.mark.parametrize("words", ["--version", "--help", "act go found", "act result-and-exit"])
def test_a_result_that_cannot_be_written_is_no_success(tmp_path: Path, words: str) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [*SAMPLE, *words.split()], cwd=tmp_path, env=environment(), check=False, text=True,
            stdout=full, stderr=subprocess.PIPE,
        )  # fmt: skip
    error = "error: cannot write the result to stdout: No space left on device\n"
    assert ended.returncode == 2
    assert ended.stderr.endswith(error + "redirect it elsewhere\n")


def test_the_script_for_completion_is_no_error(process: Run) -> None:
    # Typer's own switch: else it looks for the shell among the processes above this one, and the
    # tests may run under one that it does not know.
    named = environment(_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    done = process("--show-completion", "bash", env=named)
    assert (done.returncode, done.stderr) == (0, "")
    assert "complete -o default" in done.stdout


def test_stdin_that_is_closed(tmp_path: Path) -> None:
    ended = subprocess.run(
        ["sh", "-c", '"$0" "$@" <&-', sys.executable, "-m", "lcam_cli", "explain", "-",
         "--method", "gradcam", "--backbone", "lcam-demo"],
        cwd=tmp_path, env=environment(), check=False, text=True, capture_output=True,
    )  # fmt: skip
    error = "error: stdin is closed, so it has no paths\npipe the paths in, or remove -\n"
    assert (ended.returncode, ended.stderr) == (2, error)
