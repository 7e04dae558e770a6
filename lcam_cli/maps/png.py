"""Maps as a folder of 8-bit grey PNG, for people and programs without HDF5.

The folder mirrors the folders of the pictures. Beside the PNG lie

* ``info.json``: what all maps have in common, and whether the run is complete;
* ``maps.jsonl``: a line a map: path, class, confidence, crop box, and its PNG's name;
* ``skipped.jsonl``: a line an input that could not be read.

A PNG is on disk before its line is, and goes after its line, so a run that dies leaves no line
without a whole picture. It may leave a picture without a line; going on replaces that one.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from lcam_cli.errors import LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.maps.atomic import cannot_write, human_size, remove, write_atomically
from lcam_cli.maps.flat import FlatSummary, is_flat
from lcam_cli.maps.names import (
    INFO_NAME,
    ROWS_NAME,
    SKIPPED_NAME,
    claim_folder,
    output_name,
)
from lcam_cli.maps.png_encoder import encode_png
from lcam_cli.maps.record import Map, MapBatch, MapsInfo
from lcam_cli.threads import in_this_context

SCHEMA = "lcam-maps-png/1"

# Most of the time goes by waiting for the disk, which is quicker with many files at once.
_THREADS = 16

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
        before_lines: Callable[[], None] = lambda: None,
    ) -> None:
        created = info.created or datetime.now(UTC).isoformat(timespec="seconds")
        self.folder = folder
        self.complete = False
        self.skipped: list[Skipped] = []
        self._info = dataclasses.replace(info, created=created)
        self._lines: list[dict[str, Any]] = []
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
        """Write a PNG and a line for each row.

        Raises:
            LcamError: if the disk is full or fails.
            ValueError: if V leaves [0, 1].
        """
        batch.check()
        if self.complete:
            raise ValueError(f"{self.folder} is finished")
        try:
            with ThreadPoolExecutor(_THREADS) as pool:
                lines = list(pool.map(in_this_context(self._write), batch))
            self._before_lines()
            _append_lines(self.folder / ROWS_NAME, lines)
            _append_lines(self.folder / SKIPPED_NAME, map(dataclasses.asdict, batch.skipped))
        except OSError as error:
            raise self._failed(error) from error
        self._lines += lines
        self.skipped += batch.skipped

    def flat_summary(self) -> FlatSummary | None:
        """The maps whose PNG has one value everywhere; None where there are none."""
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
        name = output_name(row.path, row.class_index, "png")
        grey = np.rint(row.saliency * np.float32(255)).astype(np.uint8)
        data = encode_png(grey)
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
            **({"flat": True} if is_flat(grey[None])[0] else {}),
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
        saved = next(_read_lines(self.folder / INFO_NAME), {})
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
        differs = old.difference(self._info)
        if differs:
            raise LcamError(
                f"{self.folder} holds other maps: {differs}",
                "use the same settings, --overwrite or another --out",
            )
        self._info = dataclasses.replace(self._info.continuing(old), created=saved["created"])
        self.complete = saved.get("complete") is True
        self._lines = list(self._read_rows())
        for line in _read_lines(self.folder / SKIPPED_NAME):
            self.skipped.append(Skipped(str(line.get("path")), str(line.get("reason"))))

    def _read_rows(self) -> Iterator[dict[str, Any]]:
        for line in _read_lines(self.folder / ROWS_NAME):
            if not (isinstance(line.get("path"), str) and isinstance(line.get("class_index"), int)):
                raise self._refused(ROWS_NAME)
            yield line

    def _remove(self, line: dict[str, Any]) -> None:
        # The name is made anew: a line from elsewhere could name any file.
        name = output_name(line["path"], line["class_index"], "png")
        (self.folder / name).unlink(missing_ok=True)

    def _save_lines(self) -> None:
        _rewrite_lines(self.folder / ROWS_NAME, self._lines)
        skipped = [dataclasses.asdict(one) for one in self.skipped]
        _rewrite_lines(self.folder / SKIPPED_NAME, skipped)

    def _save_info(self) -> None:
        flat = self.flat_summary()
        saved = {
            "schema": SCHEMA,
            **dataclasses.asdict(self._info),
            "flat_rows": flat.rows if flat else 0,
            "complete": self.complete,
        }
        _rewrite_lines(self.folder / INFO_NAME, [saved])

    def _refused(self, name: str) -> LcamError:
        return LcamError(
            f"{self.folder / name} is not what lcam writes", "use another --out, or an empty folder"
        )

    def _failed(self, error: OSError, needed: int = _LINE_BYTES) -> LcamError:
        return cannot_write(
            self.folder,
            error,
            needed=f"at least {human_size(needed)}",
            hint="free some space or use another --out; what is there can go on with --resume",
        )


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
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
