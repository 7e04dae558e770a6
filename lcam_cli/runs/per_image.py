"""What ``--per-image`` names, refused before any work is done."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from lcam_cli.errors import LcamError
from lcam_cli.runs.targets import check_apart, check_target


def check_per_image(
    target: Path | None,
    overwrite: bool,
    others: Mapping[str, Path | str | Sequence[Path] | None],
    report: Path | None,
) -> None:
    """Refuse a file that cannot be written, or may not be.

    Args:
        target: The file; None where the option was not given.
        overwrite: Whether what is there may be replaced.
        others: What other options read or write, by option.
        report: The folder of ``--report``.

    Raises:
        LcamError: It does not end in ``.csv``, ``.json`` or ``.parquet``, exists, is a folder, or
            what another option names or replaces; or it is Parquet, and pyarrow is not installed.
    """
    if target is None:
        return
    # Few runs need these.
    from lcam_cli.reports.page import FILES  # noqa: PLC0415
    from lcam_cli.reports.per_image import SUFFIXES, check_format  # noqa: PLC0415

    if target.suffix.lower() not in SUFFIXES:
        raise LcamError(
            f"--per-image {target} does not end in .csv, .json or .parquet",
            "pass FILE.csv, FILE.json or FILE.parquet",
        )
    check_apart(target, "--per-image", others)
    real = os.path.realpath(target)
    if report is not None and real.startswith(os.path.realpath(report / FILES) + os.sep):
        raise LcamError(
            f"--per-image {target} is in a folder that --report replaces",
            "pass a file elsewhere",
        )
    check_target(target, "--per-image", overwrite)
    check_format(target)
