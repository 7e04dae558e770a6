"""Maps as a folder of files, for people and programs without HDF5: a PNG a map, or TIFF or npy.

The folder mirrors the folders of the images. Beside the maps lie

* ``info.json``: what all maps have in common, and whether the run is complete;
* ``maps.jsonl``: a line a map: path, class, confidence, crop box, and its file's name;
* ``skipped.jsonl``: a line an input that could not be read.

A map is on disk before its line is, and goes after its line, so a run that dies leaves no line
without a whole map. It may leave a map without a line; going on replaces that one.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

from lcam_cli.errors import LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.maps.atomic import cannot_write, human_size, remove, write_atomically
from lcam_cli.maps.flat import FlatSummary, is_flat
from lcam_cli.maps.map_files import (
    EXTENSIONS,
    MapFormat,
    MapSize,
    at_original_size,
    encoded_map,
    stored_values,
)
from lcam_cli.maps.names import (
    INFO_NAME,
    ROWS_NAME,
    SKIPPED_NAME,
    claim_folder,
    output_name,
)
from lcam_cli.maps.record import Map, MapBatch, MapsInfo
from lcam_cli.threads import in_this_context

SCHEMA = "lcam-maps-png/1"

# Most of the time goes by waiting for the disk, which is quicker with many files at once.
_THREADS = 16
_THREADS_OF_ORIGINALS = 2  # each holds some ten bytes a pixel of its image

_STORED = {"map_format": "png", "map_size": "input"}

# About what the line of a map takes.
_LINE_BYTES = 300


class PngWriter:
    """Appends batches to a folder of PNG; a context manager with the face of ``Hdf5Writer``.

    Args:
        folder: The folder to write into; made with its parents.
        info: What all maps have in common.
        resume: Go on with what the folder holds.
        overwrite: Write into the folder whatever it holds. The maps of an older run are removed,
            other files stay.
        map_format: Of the files.
        map_size: Whether maps are as large as the network's input or as the image; for the
            latter, batches have the images' sizes.
        before_lines: Called before a batch gets its lines; brings to the disk what has to be there
            with them.

    Attributes:
        paths: The path of each row, in order.
        skipped: Inputs that could not be read, in order.
        complete: Whether the run is finished; then nothing can be appended.

    Raises:
        LcamError: if the folder is not empty (and neither flag is set), not writable, or holds
            maps made with other settings than those it should be resumed with.
    """

    def __init__(
        self,
        folder: Path,
        info: MapsInfo,
        *,
        resume: bool = False,
        overwrite: bool = False,
        map_format: MapFormat = "png",
        map_size: MapSize = "input",
        before_lines: Callable[[], None] = lambda: None,
    ) -> None:
        created = info.created or datetime.now(UTC).isoformat(timespec="seconds")
        self.folder = folder
        self.complete = False
        self.skipped: list[Skipped] = []
        self._info = dataclasses.replace(info, created=created)
        self._lines: list[dict[str, Any]] = []
        self._format: MapFormat = map_format
        self._size: MapSize = map_size
        self._before_lines = before_lines
        claim_folder(folder, may_exist=resume or overwrite)
        if overwrite:
            self._clear()
        elif (folder / INFO_NAME).exists():
            self._load()
        elif resume:
            claim_folder(folder, may_exist=False)
        try:
            self._save_info()
            self._save_lines()
        except OSError as error:
            raise self._failed(error) from error

    @property
    def rows(self) -> int:
        """Maps in the folder."""
        return len(self._lines)

    @property
    def paths(self) -> list[str]:
        """The path of each row, in order."""
        return [line["path"] for line in self._lines]

    def append(self, batch: MapBatch) -> None:
        """Write a file and a line for each row.

        Raises:
            LcamError: if the disk is full or fails.
            ValueError: if V leaves [0, 1].
        """
        batch.check()
        if self.complete:
            raise ValueError(f"{self.folder} is finished")
        try:
            threads = _THREADS if self._size == "input" else _THREADS_OF_ORIGINALS
            with ThreadPoolExecutor(threads) as pool:
                lines = list(pool.map(in_this_context(self._write), batch))
            self._before_lines()
            _append_lines(self.folder / ROWS_NAME, lines)
            _append_lines(self.folder / SKIPPED_NAME, map(dataclasses.asdict, batch.skipped))
        except OSError as error:
            raise self._failed(error) from error
        self._lines += lines
        self.skipped += batch.skipped

    def flat_summary(self) -> FlatSummary | None:
        """The maps that have one value everywhere as stored; None where there are none."""
        flat = [line for line in self._lines if line.get("flat") is True]
        return FlatSummary(len(flat), flat[0]["path"], flat[0]["class_index"]) if flat else None

    def truncate(self, rows: int, skipped: int) -> None:
        """Drop all but the first ``rows`` maps and the first ``skipped`` unread inputs."""
        dropped = self._lines[rows:]
        del self._lines[rows:], self.skipped[skipped:]
        try:
            self._save_lines()
            for line in dropped:
                self._remove(line)
        except OSError as error:
            raise self._failed(error) from error

    def finish(self) -> None:
        """Mark the folder complete."""
        self.complete = True
        try:
            self._save_info()
        except OSError as error:
            raise self._failed(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is held open between two batches."""

    def _write(self, row: Map) -> dict[str, Any]:
        name = self._name(row.path, row.class_index)
        V = row.saliency
        flat = is_flat(stored_values(V, self._format)[None])[0]
        if self._size == "original":
            if row.size is None:
                raise ValueError(f"the size of {row.path} is not known")
            V = at_original_size(V, row.crop_box, row.size)
        data = encoded_map(V, self._format)
        try:
            write_atomically(self.folder / name, data)
        except OSError as error:
            raise self._failed(error, len(data)) from error
        return {
            "path": row.path,
            "class_index": row.class_index,
            "predicted_index": row.predicted_index,
            "class_name": row.class_name,
            "confidence": row.confidence,
            "crop_box": list(row.crop_box),
            "file": str(name),
            **({"flat": True} if flat else {}),
        }

    def _clear(self) -> None:
        """Remove the maps of an older run.

        First goes what tells that they are there, so that none of them is ever taken for one of
        this run's.
        """
        try:
            remove(self.folder / INFO_NAME)
            for line in self._read_rows():
                self._remove(line)
            (self.folder / ROWS_NAME).unlink(missing_ok=True)
            (self.folder / SKIPPED_NAME).unlink(missing_ok=True)
        except OSError as error:
            raise self._failed(error) from error

    def _load(self) -> None:
        """Take over what an earlier run wrote."""
        saved = next(read_lines(self.folder / INFO_NAME), {})
        names = {field.name for field in dataclasses.fields(MapsInfo)}
        # Softmax scores, patches found by themselves and whole runs were all there was at first,
        # and nothing told the classes or the precision.
        may_be_missing = {"grid", "activation", "output", "probabilities", "precision"}
        may_be_missing |= {"shard", "classes", "classes_explained"}
        classes = saved.get("classes", [])
        wrong = not isinstance(classes, list) or not all(isinstance(c, str) for c in classes)
        if saved.get("schema") != SCHEMA or names - saved.keys() - may_be_missing or wrong:
            raise self._refused(INFO_NAME)
        old = MapsInfo(**{n: saved[n] for n in names & saved.keys()})
        differs = old.difference(self._info) or self._stored_otherwise(saved)
        if differs:
            raise LcamError(
                f"{self.folder} holds other maps: {differs}",
                "use the same settings, or pass --overwrite or another --out",
            )
        self._info = dataclasses.replace(self._info.continuing(old), created=saved["created"])
        self.complete = saved.get("complete") is True
        self._lines = list(self._read_rows())
        for line in read_lines(self.folder / SKIPPED_NAME):
            self.skipped.append(Skipped(str(line.get("path")), str(line.get("reason"))))

    def _stored_otherwise(self, saved: dict[str, Any]) -> str:
        """Name how other maps are stored; a folder of 0.1.0 says nothing of either."""
        for name, mine in (("map_format", self._format), ("map_size", self._size)):
            theirs = saved.get(name, _STORED[name])
            if theirs != mine:
                return f"{name} is {theirs!r}, not {mine!r}"
        return ""

    def _read_rows(self) -> Iterator[dict[str, Any]]:
        for line in read_lines(self.folder / ROWS_NAME):
            if not (isinstance(line.get("path"), str) and isinstance(line.get("class_index"), int)):
                raise self._refused(ROWS_NAME)
            yield line

    def _remove(self, line: dict[str, Any]) -> None:
        # The name is made anew: a line from elsewhere could name any file.
        name = self._name(line["path"], line["class_index"])
        (self.folder / name).unlink(missing_ok=True)

    def _name(self, path: str, class_index: int) -> PurePosixPath:
        return output_name(path, class_index, EXTENSIONS[self._format])

    def _save_lines(self) -> None:
        _rewrite_lines(self.folder / ROWS_NAME, self._lines)
        skipped = [dataclasses.asdict(one) for one in self.skipped]
        _rewrite_lines(self.folder / SKIPPED_NAME, skipped)

    def _save_info(self) -> None:
        flat = self.flat_summary()
        saved = {
            "schema": SCHEMA,
            **dataclasses.asdict(self._info),
            "map_format": self._format,
            "map_size": self._size,
            "flat_rows": flat.rows if flat else 0,
            "complete": self.complete,
        }
        _rewrite_lines(self.folder / INFO_NAME, [saved])

    def _refused(self, name: str) -> LcamError:
        return LcamError(
            f"{self.folder / name} was not written by lcam", "use another --out, or an empty folder"
        )

    def _failed(self, error: OSError, needed: int = _LINE_BYTES) -> LcamError:
        return cannot_write(
            self.folder,
            error,
            needed=f"at least {human_size(needed)}",
            hint="free some space or use another --out; continue what is saved with --resume",
        )


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON lines file, less a last line that a kill cut short."""
    if not path.exists():
        return
    with path.open("rb") as stream:
        for raw in stream:
            try:
                line = json.loads(raw) if raw.endswith(b"\n") else None
            except (ValueError, RecursionError):
                line = None
            if not isinstance(line, dict):
                return
            yield line


def _append_lines(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    with path.open("ab") as stream:
        stream.write(_encoded(lines))
        stream.flush()
        os.fsync(stream.fileno())


def _rewrite_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    write_atomically(path, _encoded(lines))


def _encoded(lines: Iterable[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode("ascii")
