"""The images that a caller names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lcam_cli.runs.checks import checked, spellings

Inputs = str | Path | Iterable[str | Path]
"""Pictures, folders of them or tars: a path, or several."""


def listed(name: str, inputs: Inputs) -> list[str]:
    """Return inputs as a list of paths, as they are spelt.

    Args:
        name: What the caller knows them by, for messages.
        inputs: A path, or several.

    Raises:
        LcamError: They are something else.
    """
    spelt: list[str] = checked(name, inputs, spellings)
    return spelt


def check_there(inputs: Iterable[str]) -> None:
    """Look for files and folders before torch is imported, which takes longer.

    Raises:
        LcamError: One of them does not exist.
    """
    # They import numpy, which options and help do without.
    from lcam_cli.images import find  # noqa: PLC0415
    from lcam_cli.runs.pipes import is_pipe  # noqa: PLC0415

    find.check_there(path for path in inputs if not is_pipe(path))
