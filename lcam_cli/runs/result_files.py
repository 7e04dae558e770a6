"""Where results go: claimed before any work is done, and written in the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lcam_cli.errors import LcamError
from lcam_cli.locks import lock_folder
from lcam_cli.runs.named_results import NamedResults
from lcam_cli.runs.reporter import Reporter


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


def write_results(wanted: NamedResults, render: Callable[[str], str], reporter: Reporter) -> None:
    """Write a result to each file of ``--out``, in its format, and say where.

    Args:
        wanted: The files.
        render: What gives the text, by format.
        reporter: Is told which files were written.

    Raises:
        LcamError: One cannot be written.
    """
    for file, format_ in wanted.texts:
        write_text(render(format_), file, "--out")
        reporter.info(f"the result is in {file}")


def write_text(text: str, out: Path, option: str) -> None:
    """Write a finished text to the file that an option names.

    Raises:
        LcamError: It cannot be written.
    """
    try:
        out.write_text(text if text.endswith("\n") else f"{text}\n", "utf-8")
    except OSError as error:
        raise LcamError(
            f"cannot write {out}: {error.strerror}", f"pass another file with {option}"
        ) from None
