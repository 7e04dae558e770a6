"""What the fault harnesses share."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.many import Commands


@pytest.fixture(scope="session")
def lcam() -> Iterator[Commands]:
    commands = Commands()
    yield commands
    commands.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A small disk of its own: call it with mount options, again to change them.

    Skips where none can be mounted (it takes Linux and root).
    """
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = False

    def mount(options: str) -> Path:
        nonlocal mounted
        how = f"remount,{options}" if mounted else options
        words = ["mount", "-t", "tmpfs", "-o", how, "tmpfs", str(folder)]
        try:
            subprocess.run(words, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("cannot mount a small disk here")
        mounted = True
        return folder

    yield mount
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)
