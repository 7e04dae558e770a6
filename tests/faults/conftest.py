"""What the fault harnesses share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.many import Commands


@pytest.fixture(scope="session")
def lcam() -> Iterator[Commands]:
    commands = Commands()
    yield commands
    commands.close()
