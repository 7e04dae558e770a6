"""``--report DIR``: the folder is refused, or claimed, before any work is done."""

from __future__ import annotations

from pathlib import Path

import typer

from lcam_cli.locks import lock_folder


def claim_report(context: typer.Context, folder: Path, overwrite: bool) -> None:
    """Keep other runs off the report's folder until the command ends.

    Raises:
        LcamError: It holds something and may not be replaced, or another run is writing there.
    """
    from lcam_cli.reports.page import check_page_folder

    check_page_folder(folder, "--report", overwrite=overwrite)
    context.with_resource(lock_folder(folder))
