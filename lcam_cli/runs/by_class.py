"""What ``--by-class`` names, refused before any work is done."""

from __future__ import annotations

from pathlib import Path

from lcam_cli.runs.named_results import named_results
from lcam_cli.runs.targets import check_target

FORMATS = ("json", "csv", "markdown", "latex")


def by_class_target(file: Path) -> tuple[Path, str]:
    """Return the file and its format.

    Raises:
        LcamError: Its extension says none of :data:`FORMATS`.
    """
    return named_results([file], None, FORMATS, option="--by-class").texts[0]


def check_by_class(file: Path | None, overwrite: bool) -> None:
    """Refuse a file that cannot be written, or may not be.

    Raises:
        LcamError: It exists, is a folder, or its extension says no format.
    """
    if file is not None:
        by_class_target(file)
        check_target(file, "--by-class", overwrite)
