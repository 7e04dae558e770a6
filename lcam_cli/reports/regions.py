"""Regions as a file: annotations as COCO has them, or a table; whole under its name or not there.

While a run goes on, each of its maps is a line of a journal beside the file, so that memory does
not grow and a run that was stopped goes on. The file is made of the journal in the end.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from lcam_cli.errors import LcamError
from lcam_cli.maps.atomic import atomic_file, cannot_write, human_size
from lcam_cli.maps.record import Map, MapBatch
from lcam_cli.maps.regions import Region, regions_of
from lcam_cli.reports.text import csv_text

SUFFIXES = (".json", ".csv")
DEFAULT_NU = 15.0
"""ν where nothing says another: the smallest of the paper's."""

_COLUMNS = (
    *("path", "width", "height", "class_index", "class_name", "confidence"),
    *("region", "x0", "y0", "x1", "y1", "area", "score"),
)


class _Line(NamedTuple):
    """A map and its regions."""

    path: str
    size: tuple[int, int]
    class_index: int
    class_name: str
    confidence: float
    regions: list[Region]


class RegionsFile:
    """Writes the regions of maps; a context manager.

    Args:
        target: ``*.json`` or ``*.csv``.
        nu: ν in (0, 100]: the regions are a map's highest ν%.
        about: What else the JSON says of the run.
        resume: Go on with the journal of an earlier run, or with what it finished.
        overwrite: Replace what is there.

    Raises:
        LcamError: The file is there already; or the journal is of other regions, or not writable.
    """

    def __init__(
        self,
        target: Path,
        nu: float,
        about: dict[str, Any],
        *,
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.target = target
        self._head = {"nu": nu, **about}
        self._journal = target.with_name(f".{target.name}.lcam-lines")
        finished = resume and target.exists() and not self._journal.exists()
        if target.exists() and not (resume or overwrite):
            raise LcamError(f"{target} exists", "use --resume, --overwrite or another --regions")
        self._rows = 0
        try:
            if resume and self._journal.exists():
                self._take_over()
            elif not finished:
                target.parent.mkdir(parents=True, exist_ok=True)
                self._journal.write_text(_encoded(self._head), "ascii")
            self._stream = None if finished else self._journal.open("ab")
        except OSError as error:
            raise self._failed(error) from error

    def _take_over(self) -> None:
        """Count the whole lines of an earlier run's journal, and drop what a kill cut short."""
        with self._journal.open("rb+") as stream:
            head = stream.readline()
            if head != _encoded(self._head).encode("ascii"):
                raise LcamError(
                    f"{self.target} was started with another ν, method or class",
                    "use the same settings, --overwrite or another --regions",
                )
            end = stream.tell()
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                self._rows, end = self._rows + 1, end + len(line)
            stream.truncate(end)

    def rewind(self, rows: int, *, complete: bool = False) -> None:
        """Keep the regions of the first maps alone, those that the maps' own output has.

        Args:
            rows: How many it has.
            complete: Whether these are all.

        Raises:
            LcamError: An earlier run made maps without regions, or the file is another run's.
        """
        if self._stream is None:
            if not complete:
                raise LcamError(
                    f"{self.target} is complete, but the maps are not",
                    "use another --regions file, or --overwrite",
                )
            return
        if rows > self._rows:
            self.close()
            if not self._rows:
                self._journal.unlink(missing_ok=True)
            raise LcamError(
                f"{self.target} lacks the regions of {rows - self._rows} stored maps",
                "use --overwrite, or remove --regions: an earlier run made them without it",
            )
        if rows < self._rows:
            with self._journal.open("rb") as stream:
                for _ in range(rows + 1):  # the head is a line too
                    stream.readline()
                end = stream.tell()
            try:
                self._stream.truncate(end)
            except OSError as error:
                raise self._failed(error) from error
            self._rows = rows

    def append(self, batch: MapBatch) -> None:
        """Note the regions of some maps, which have their images' sizes.

        Raises:
            LcamError: The disk is full or fails.
        """
        if self._stream is None:
            raise ValueError(f"{self.target} is finished")
        lines = "".join(_encoded(_line(row, self._head["nu"])) for row in batch)
        try:
            self._stream.write(lines.encode("ascii"))
        except OSError as error:
            raise self._failed(error, len(lines)) from error
        self._rows += len(batch)

    def sync(self) -> None:
        """Bring what was noted to the disk, before a row says that it is there.

        Raises:
            LcamError: The disk is full or fails.
        """
        if self._stream is not None:
            try:
                self._stream.flush()
                os.fsync(self._stream.fileno())
            except OSError as error:
                raise self._failed(error) from error

    def finish(self) -> None:
        """Write the file itself, and remove the journal.

        Raises:
            LcamError: The disk is full or fails.
        """
        if self._stream is None:
            return
        self.sync()
        write = _write_coco if self.target.suffix.lower() == ".json" else _write_csv
        try:
            with atomic_file(self.target) as temporary:
                write(temporary, self)
            self.close()
            self._journal.unlink()
        except OSError as error:
            raise self._failed(error, self._journal.stat().st_size) from error
        self._stream = None

    def close(self) -> None:
        """Close the journal, which stays for a run that goes on."""
        if self._stream is not None:
            self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def head(self) -> dict[str, Any]:
        """What the file says of the run."""
        return self._head

    def lines(self) -> Iterator[_Line]:
        """Read what was noted, a map at a time."""
        with self._journal.open("rb") as stream:
            stream.readline()
            for raw in stream:
                *line, regions = json.loads(raw)
                path, size, class_index, class_name, confidence = line
                yield _Line(
                    path,
                    (size[0], size[1]),
                    class_index,
                    class_name,
                    confidence,
                    [Region(*one) for one in regions],
                )

    def _failed(self, error: OSError, needed: int = 4096) -> LcamError:
        return cannot_write(
            self.target,
            error,
            needed=f"at least {human_size(needed)}",
            hint="free some space or pass another --regions; --resume continues",
        )


def _line(row: Map, nu: float) -> _Line:
    if row.size is None:
        raise ValueError(f"the size of {row.path} is not known")
    confidence = round(row.confidence, 6)
    regions = regions_of(row, nu)
    return _Line(row.path, row.size, row.class_index, row.class_name, confidence, regions)


def _encoded(what: object) -> str:
    return json.dumps(what) + "\n"


def _write_coco(path: Path, file: RegionsFile) -> None:
    """Write ``images``, ``categories`` and ``annotations`` (Lin et al., ECCV 2014).

    An image's id is that of its first map; annotations have a ``score`` besides, as detections do.
    """
    with path.open("w", encoding="ascii") as out:
        out.write(f'{{"info": {json.dumps(file.head)},\n"images": [')
        before, names = None, {}
        between = "\n"
        for number, line in enumerate(file.lines()):
            names[line.class_index] = line.class_name
            if line.path != before:
                width, height = line.size
                image = {"id": number, "file_name": line.path, "width": width, "height": height}
                out.write(between + json.dumps(image))
                before, between = line.path, ",\n"
        categories = [{"id": index, "name": name} for index, name in sorted(names.items())]
        out.write('],\n"categories": ' + json.dumps(categories) + ',\n"annotations": [')
        before, image_id, count, between = None, 0, 0, "\n"
        for number, line in enumerate(file.lines()):
            if line.path != before:
                before, image_id = line.path, number
            for region in line.regions:
                count += 1
                out.write(between + json.dumps(_annotation(count, image_id, line, region)))
                between = ",\n"
        out.write("]}\n")


def _annotation(number: int, image_id: int, line: _Line, region: Region) -> dict[str, Any]:
    x0, y0, x1, y1, area, score = region
    return {
        "id": number,
        "image_id": image_id,
        "category_id": line.class_index,
        "bbox": [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)],
        "area": area,
        "iscrowd": 0,
        "score": score,
    }


def _write_csv(path: Path, file: RegionsFile) -> None:
    """Write a row a region; they are numbered from 1 in each map, the largest first."""
    with path.open("w", encoding="utf-8", newline="") as out:
        table = csv.writer(out, lineterminator="\n")
        table.writerow(_COLUMNS)
        for line in file.lines():
            file_name, name = csv_text(line.path), csv_text(line.class_name)
            start = (file_name, *line.size, line.class_index, name, line.confidence)
            for number, region in enumerate(line.regions, 1):
                table.writerow((*start, number, *region))
