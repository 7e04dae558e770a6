"""Commands whose imports are done are as those that start from nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import warm
from tests.conftest import ROOT


@pytest.mark.parametrize(
    "line", [["--version"], ["explain", "nothing.jpg", "--method", "gradcam"], ["nonsense"]]
)
def test_it_says_and_exits_as_the_command_does(tmp_path: Path, line: list[str]) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = [
        subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, check=False)
        for words in (warm.words(*line), [sys.executable, "-m", "lcam_cli", *line])
    ]
    seen, expected = ((e.returncode, e.stdout, e.stderr) for e in ended)
    assert seen == expected


def test_folder_variables_streams_and_exit_code_are_the_callers(tmp_path: Path) -> None:
    (tmp_path / "told.py").write_text(
        "import os, sys\n"
        "print(os.getcwd(), os.environ['LCAM_GIVEN'], sys.argv[1:], sys.stdin.read())\n"
        "print('torch' in sys.modules, file=sys.stderr)\n"
        "sys.exit(7)\n"
    )
    for _ in range(2):
        done = subprocess.run(
            warm.words("a b", "ü", module="told"),
            cwd=tmp_path,
            env={**os.environ, "LCAM_GIVEN": "1"},
            input="typed",
            capture_output=True,
            text=True,
            check=False,
        )
        told = f"{tmp_path} 1 ['a b', 'ü'] typed\n"
        assert (done.returncode, done.stdout, done.stderr) == (7, told, "True\n")
