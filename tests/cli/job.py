"""The real command in a working folder, through its parser but without a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from lcam_cli.__main__ import run
from lcam_cli.cli.app import lcam_app
from tests.tiny import write_pictures


class Ended(NamedTuple):
    code: int
    out: str
    err: str


Lcam = Callable[..., Ended]


@pytest.fixture
def lcam(capfd: pytest.CaptureFixture[str]) -> Lcam:
    """Run the command with some words; a module has it by ``lcam = job.lcam``."""

    def call(*words: str | Path) -> Ended:
        code = run(lcam_app(), [str(w) for w in words])
        captured = capfd.readouterr()
        return Ended(code, captured.out, captured.err)

    return call


def begin(folder: Path, monkeypatch: pytest.MonkeyPatch, own: str, pictures: int) -> None:
    """Go to ``folder``, with the networks of ``own`` in own.py, and some images in photos/."""
    monkeypatch.chdir(folder)
    (folder / "own.py").write_text(own)
    write_pictures(folder / "photos", pictures)
