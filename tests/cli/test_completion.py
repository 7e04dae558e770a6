"""The shell asks what could be typed next."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT


def asked(**how: str) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LCAM_")}
    return subprocess.run(
        [sys.executable, "-m", "lcam_cli"],
        env={**kept, "PYTHONPATH": str(ROOT), **how},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "word", "offered"),
    [("lcam e", "1", ["explain", "evaluate"]), ("lcam explain --overl", "2", ["--overlays"])],
)
def test_bash_is_told_commands_and_options(typed: str, word: str, offered: list[str]) -> None:
    told = asked(_LCAM_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD=word).split()
    assert set(offered) <= set(told)
    assert "train" not in told


def test_the_script_for_a_shell_is_shown() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lcam_cli", "--show-completion", "bash"],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",  # typer's own, for its tests
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "_LCAM_COMPLETE=complete_bash" in done.stdout
