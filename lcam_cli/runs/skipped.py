"""The images that a run leaves out."""

from __future__ import annotations

from lcam_cli.errors import LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.methods.explain import NOT_NUMBERS
from lcam_cli.runs.reporter import Reporter


class SkippedPictures:
    """Warns of every image that is left out, and counts them; with ``strict``, stops at one.

    Attributes:
        strict: Whether one stops the run.
        count: How many there are.
        what: What is the matter with them, as the end of a sentence.
    """

    def __init__(self, reporter: Reporter, strict: bool) -> None:
        self._reporter = reporter
        self.strict = strict
        self.count = 0
        self.what = "could not be read"

    def __call__(self, skipped: Skipped) -> None:
        """Note one.

        Raises:
            LcamError: Where ``strict``.
        """
        if self.strict:
            raise LcamError(
                f"{skipped.path}: {skipped.reason}",
                "remove --strict to continue without such images",
            )
        self.count += 1
        if skipped.reason.startswith(NOT_NUMBERS):
            self.what = "are skipped"
        self._reporter.warn(f"skipped {skipped.path}: {skipped.reason}")
