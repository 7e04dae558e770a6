"""Running the sample command line, as a process or here, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lcam_cli.__main__ import run
from tests.cli.sample_app import app
from tests.conftest import ROOT

SAMPLE = [sys.executable, "-m", "tests.cli.sample_app"]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without our own variables, and with ``extra``."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LCAM_")}
    return {**kept, "PYTHONPATH": str(ROOT), **extra}


@pytest.fixture
def process(tmp_path: Path) -> Run:
    """Run the sample app as a process in ``tmp_path``, as a user would."""

    def run_process(
        *args: str | bytes, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*SAMPLE, *args],
            cwd=tmp_path,
            env=environment(**(env or {})),
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=60,
            check=False,
        )

    return run_process


@pytest.fixture
def lcam(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """The same without a process of its own, which is ten times as fast."""

    def run_here(*args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            for name in [name for name in os.environ if name.startswith("LCAM_")]:
                patch.delenv(name)
            for name, value in (env or {}).items():
                patch.setenv(name, value)
            code = run(app, list(args))
        return subprocess.CompletedProcess(args, code, *capsys.readouterr())

    return run_here
