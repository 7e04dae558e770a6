"""What ``lcam explain`` does with the images, all of them or a part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lcam_cli.images.find import Skipped
from lcam_cli.images.read import MAX_PIXELS
from lcam_cli.maps.flat import FlatSummary
from lcam_cli.methods.explain import NOT_NUMBERS, explain, no_numbers
from lcam_cli.runs.explain_options import ExplainOptions
from lcam_cli.runs.explain_task import ExplainTask, Part
from lcam_cli.runs.outputs import Outputs
from lcam_cli.runs.skipped import SkippedPictures


@dataclass(frozen=True)
class PartResult:
    """What a part that is done has.

    Attributes:
        rows: Maps in its output.
        was_complete: Whether an earlier run had finished it.
        flat: Those that are flat; None where none is.
    """

    rows: int
    was_complete: bool
    flat: FlatSummary | None = None


@dataclass(frozen=True)
class ExplainRun:
    """A task, and how it is carried out.

    Attributes:
        task: What is explained, and how.
        options: What is written, and what becomes of what is there.
        skipped: Counts what is left out.
        workers: Processes that read images.
    """

    task: ExplainTask
    options: ExplainOptions
    skipped: SkippedPictures
    workers: int

    def report_skipped(self, kept: Sequence[Skipped], found: Sequence[Skipped]) -> None:
        """Report the inputs that are left out before any image is explained, each once.

        Args:
            kept: Those that an earlier run could not read, as they are called in its output. They
                are no more in this one's, and it does not try them again.
            found: Those that lead nowhere now.

        Raises:
            LcamError: There are some, with ``--strict``.
        """
        known = {one.path for one in kept}
        task = self.task
        spelt = dict(zip(task.names, task.found.paths, strict=True)) if kept else {}
        for one in kept:
            self.skipped(Skipped(spelt.get(one.path, one.path), one.reason))
        for one in found:
            if one.path not in known:
                self.skipped(one)

    def explain(
        self, part: Part, advance: Callable[[int], None], stop: Callable[[], bool]
    ) -> PartResult | None:
        """Explain the images of a part.

        Args:
            part: Which, and where their maps go.
            advance: Called with the images done, after every batch.
            stop: Asked after every batch; True ends with what is done saved.

        Returns:
            None where it was stopped.

        Raises:
            LcamError: See :class:`Outputs`; or no image of the run has scores that are numbers.
        """
        task = self.task
        with Outputs(part, task, self.options, self.workers) as outputs:
            start = outputs.rewind(task.batch_size)
            advance(start)
            self.report_skipped(outputs.skipped, outputs.skipped_inputs)
            if outputs.complete:
                outputs.finish()
                return PartResult(outputs.rows, True, outputs.flat())
            rows = outputs.rows
            # Where no image has numbers for scores, that is said once, and not of each.
            pending: list[Skipped] = []
            for batch in explain(
                task.engine,
                task.method,
                outputs.paths,
                choice=task.choice,
                workers=self.workers,
                start=start,
                max_pixels=self.options.engine.max_pixels or MAX_PIXELS,
                row_path=task.row_path,
                tasks=outputs.tasks,
            ):
                rows += len(batch)
                pending += [*batch.skipped, *outputs.append(batch)]
                pending = self._report(pending, all_of_them=rows > 0 or self.skipped.strict)
                advance(len(batch) // task.choice.per_picture + len(batch.skipped))
                if stop():
                    self._report(pending, all_of_them=True)
                    return None
            pending += outputs.settle()
            if part.shard is None:  # the other parts of a run may have numbers
                check_numbers(rows, outputs.skipped, task.engine.hardware.precision)
            self._report(pending, all_of_them=True)
            outputs.finish()
            return PartResult(outputs.rows, False, outputs.flat())

    def _report(self, items: Sequence[Skipped], *, all_of_them: bool) -> list[Skipped]:
        """Report what is left out; return what has no numbers unless it is to be reported too."""
        wait = [one for one in items if not all_of_them and one.reason.startswith(NOT_NUMBERS)]
        for one in items:
            if one not in wait:
                self.skipped(one)
        return wait


def check_numbers(rows: int, skipped: Sequence[Skipped], precision: str) -> None:
    """Refuse a run without a row because no image has scores that are numbers.

    Args:
        rows: What the run has.
        skipped: What it left out.
        precision: What the network computed in.

    Raises:
        LcamError: It is such a run.
    """
    lost = sum(one.reason.startswith(NOT_NUMBERS) for one in skipped)
    if lost and not rows:
        raise no_numbers(lost, precision)
