"""What ``lcam explain`` does with the pictures, all of them or a part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lcam_cli.engine.engine import Engine
from lcam_cli.images.find import Found, Skipped
from lcam_cli.maps.flat import Flat
from lcam_cli.maps.paths import stored_path
from lcam_cli.maps.record import MapDtype, Shard
from lcam_cli.methods.base import Method
from lcam_cli.methods.explain import (
    NOT_NUMBERS,
    ClassChoice,
    explain,
    no_numbers,
    pictures_at_once,
)
from lcam_cli.runs.options import OverlayOptions
from lcam_cli.runs.outputs import Outputs, Part, check_shared
from lcam_cli.runs.skipped import SkippedPictures
from lcam_cli.scale.shares import shard_file, shard_range


@dataclass(frozen=True)
class Ended:
    """How a part came to its end.

    Attributes:
        rows: Maps in its output.
        was_complete: Whether an earlier run had finished it.
        flat: Those that are flat; None where none is.
    """

    rows: int
    was_complete: bool
    flat: Flat | None = None


@dataclass(frozen=True)
class ExplainRun:
    """Pictures, and how they are explained; see the options of the same names."""

    engine: Engine
    method: Method
    found: Found
    choice: ClassChoice
    skipped: SkippedPictures
    overlay: OverlayOptions
    map_dtype: MapDtype
    max_pixels: int
    workers: int
    resume: bool
    overwrite: bool

    @cached_property
    def names(self) -> list[str]:
        """What the pictures are called in the rows."""
        return [self.row_path(path) for path in self.found.paths]

    @property
    def at_once(self) -> int:
        """Pictures a batch."""
        return pictures_at_once(self.engine, self.method)

    def row_path(self, path: str) -> str:
        """What a picture is called in the rows."""
        return stored_path(path, self.found.root)

    def whole(self, out: Path) -> Part:
        """All pictures."""
        return Part(out, range(len(self.found.paths)))

    def shard(self, out: Path, index: int, count: int) -> Part:
        """Part ``index`` of ``count``, in a file of its own.

        Raises:
            LcamError: ``out`` is a folder of PNGs.
        """
        check_shared(out)
        pictures = shard_range(len(self.found.paths), self.at_once, index, count)
        return Part(shard_file(out, index, count), pictures, self.describe(pictures))

    def describe(self, pictures: range) -> Shard:
        """What a file of some of the pictures says of itself."""
        return Shard.of(pictures, self.names, repr(self.choice))

    def tell(self, kept: Sequence[Skipped], found: Sequence[Skipped]) -> None:
        """Tell of the inputs that are left out before any picture is explained, each once.

        Args:
            kept: Those that an earlier run could not read, as they are called in its output. They
                are no more in this one's, and it does not try them again.
            found: Those that lead nowhere now.

        Raises:
            LcamError: There are some, with ``--strict``.
        """
        known = {one.path for one in kept}
        spelt = dict(zip(self.names, self.found.paths, strict=True)) if kept else {}
        for one in kept:
            self.skipped(Skipped(spelt.get(one.path, one.path), one.reason))
        for one in found:
            if one.path not in known:
                self.skipped(one)

    def explain(
        self, part: Part, advance: Callable[[int], None], stop: Callable[[], bool]
    ) -> Ended | None:
        """Explain the pictures of a part.

        Args:
            part: Which, and where their maps go.
            advance: Called with the pictures done, after every batch.
            stop: Asked after every batch; True ends with what is done saved.

        Returns:
            None where it was stopped.

        Raises:
            LcamError: See :class:`Outputs`; or no picture of the run has scores that are numbers.
        """
        outputs = Outputs(
            part,
            self.engine.backbone,
            self.method,
            self.found,
            self.names,
            self.choice,
            map_dtype=self.map_dtype,
            overlay=self.overlay,
            max_pixels=self.max_pixels,
            workers=self.workers,
            resume=self.resume,
            overwrite=self.overwrite,
        )
        with outputs:
            start = outputs.rewind(self.at_once)
            advance(start)
            self.tell(outputs.skipped, outputs.found_skipped)
            if outputs.complete:
                return Ended(outputs.rows, True, outputs.flat())
            rows = outputs.rows
            # Where no picture has numbers for scores, that is told once, and not of each.
            untold: list[Skipped] = []
            for batch in explain(
                self.engine,
                self.method,
                outputs.paths,
                choice=self.choice,
                workers=self.workers,
                start=start,
                max_pixels=self.max_pixels,
                row_path=self.row_path,
            ):
                rows += len(batch)
                untold += [*batch.skipped, *outputs.append(batch)]
                untold = self._tell(untold, all_of_them=rows > 0 or self.skipped.strict)
                advance(len(batch) // self.choice.per_picture + len(batch.skipped))
                if stop():
                    self._tell(untold, all_of_them=True)
                    return None
            untold += outputs.settle()
            if part.shard is None:  # the other parts of a run may have numbers
                check_numbers(rows, outputs.skipped, self.engine.hardware.precision)
            self._tell(untold, all_of_them=True)
            outputs.finish()
            return Ended(outputs.rows, False, outputs.flat())

    def _tell(self, items: Sequence[Skipped], *, all_of_them: bool) -> list[Skipped]:
        """Tell of what is left out, but for what has no numbers unless it is to be told too."""
        wait = [one for one in items if not all_of_them and one.reason.startswith(NOT_NUMBERS)]
        for one in items:
            if one not in wait:
                self.skipped(one)
        return wait


def check_numbers(rows: int, skipped: Sequence[Skipped], precision: str) -> None:
    """Refuse a run without a row because no picture has scores that are numbers.

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
