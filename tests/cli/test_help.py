"""``--help``: groups, examples, exit codes; panels on a terminal."""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys

import pytest
import typer

from lcam_cli.cli.app import lcam_app
from lcam_cli.cli.help import SUMMARY, grouped, page_of, summary_of
from lcam_cli.cli.help_groups import COMMANDS, EXAMPLES, GROUPS, OWN_GROUPS
from lcam_cli.cli.run import run
from lcam_cli.cli.signatures import described
from tests.conftest import ROOT

GROUP = typer.main.get_command(lcam_app())
NAMES = list(GROUP.commands)  # type: ignore[attr-defined]


def command(name: str) -> typer.core.TyperCommand:
    found: typer.core.TyperCommand = GROUP.commands[name]  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_in_one_group(name: str) -> None:
    keys = [key for group in GROUPS.values() for key in group]
    assert len(keys) == len(set(keys))
    function = command(name).callback.__wrapped__  # type: ignore[union-attr]
    there = [one.key for one in described(function)]
    own = [key for group in OWN_GROUPS.get(name, {}).values() for key in group]
    assert set(there) <= {*keys, *own}
    shown = [one.key for _, params in grouped(name, function) for one in params]
    assert sorted(shown) == sorted(there)


def test_groups_name_no_parameter_that_is_gone() -> None:
    there = {"version", "help"}
    for name in NAMES:
        there |= {one.key for one in described(command(name).callback.__wrapped__)}  # type: ignore[union-attr]
    assert {key for group in GROUPS.values() for key in group} <= there


def test_every_command_is_listed_with_a_short_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(name for names in COMMANDS.values() for name in names) == sorted(NAMES)
    for name in NAMES:
        assert 0 < len(summary_of(command(name))) <= SUMMARY
    assert run(lcam_app(), ["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(any(line.split()[:1] == [name] for line in lines) for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_examples_can_be_typed(name: str) -> None:
    for example in EXAMPLES[name]:
        program, typed, *words = shlex.split(example)
        assert (program, typed) == ("lcam", name)
        options = {option for param in command(name).params for option in param.opts}
        assert {word for word in words if word.startswith("-")} <= options


def test_help_is_in_groups_with_defaults_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(lcam_app(), ["explain", "--help"]) == 0
    text = capsys.readouterr().out
    titles = ["What to explain:", "Classifier:", "Method:", "Output:", "Preprocessing:", "Speed:"]
    places = [text.index(f"\n{title}\n") for title in [*titles, "Resuming:", "Examples:"]]
    assert places == sorted(places)
    assert "[default: inferno]" in text
    assert "(the predicted" not in text
    assert "9223372036854775807" not in text
    assert "--caption/--no-caption" in text
    assert "130" in text.partition("Exit codes:")[2]


@pytest.mark.parametrize(("name", "has_gate"), [("evaluate", True), ("explain", False)])
def test_the_exit_code_of_gates_stands_where_there_are_gates(name: str, has_gate: bool) -> None:
    with typer.Context(command(name), info_name=name) as context:
        codes = dict(page_of(command(name), context).exit_codes)
    assert ("1" in codes) == has_gate


@pytest.mark.parametrize("columns", [80, 50])
def test_a_terminal_gets_panels_of_its_width(columns: int) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "lcam_cli", "explain", "--help"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": str(columns), "TERM": "xterm"},
        stdout=theirs,
        stdin=theirs,
    ):
        os.close(theirs)
        drawn = b""
        while piece := _read(ours):
            drawn += piece
    os.close(ours)
    text = drawn.decode()
    assert "\x1b[36m" in text  # cyan
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    assert any("╭" in line and "Classifier" in line for line in lines)
    assert max(map(len, lines)) == columns


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other end is closed
        return b""
