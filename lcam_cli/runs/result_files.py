"""Where results go: claimed before any work is done, and written in the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lcam_cli.errors import LcamError
from lcam_cli.locks import lock_folder


class UnwrittenPageError(LcamError):
    """A report's page could not be written, when all else was done.

    Attributes:
        result: What the run would have returned, without a page.
    """

    def __init__(self, error: LcamError, result: Any) -> None:
        super().__init__(error.what, error.hint)
        self.result = result


@contextmanager
def claimed_report(folder: Path, overwrite: bool) -> Iterator[None]:
    """Keep other runs off the folder of ``--report`` while the block runs.

    A block that ends without a page leaves nothing of one, so that the same run can be repeated.

    Raises:
        LcamError: It holds something and may not be replaced, or another run is writing there.
    """
    from lcam_cli.reports.page import (  # noqa: PLC0415 (most runs write no page)
        check_page_folder,
        remove_unfinished_page,
    )

    check_page_folder(folder, "--report", overwrite=overwrite)
    is_new = not folder.exists()
    try:
        with lock_folder(folder):
            try:
                yield
            finally:
                remove_unfinished_page(folder)
    finally:
        if is_new:
            with suppress(OSError):  # it holds a page, or is another run's by now
                folder.rmdir()


def write_result(text: str, out: Path) -> None:
    """Write a finished text to the file of ``--out``.

    Raises:
        LcamError: It cannot be written.
    """
    try:
        out.write_text(text if text.endswith("\n") else f"{text}\n", "utf-8")
    except OSError as error:
        raise LcamError(
            f"cannot write {out}: {error.strerror}", "name another file with --out"
        ) from None
