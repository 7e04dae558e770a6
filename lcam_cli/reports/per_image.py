"""The file of ``--per-image``: every number of every image, for notebooks and spreadsheets.

A line an image, class and method. Lines are written as they come, so that memory does not grow
with the number of images, and the file is whole under its name or not there.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from lcam_cli.errors import LcamError
from lcam_cli.extras import install_hint
from lcam_cli.maps.atomic import atomic_file, cannot_write
from lcam_cli.measures.measure import Quantity
from lcam_cli.measures.scored import ScoredRows
from lcam_cli.reports.nu_key import nu_key
from lcam_cli.reports.text import csv_text

PARQUET = ".parquet"
JSON = ".json"
SUFFIXES = (".csv", JSON, PARQUET)
_LINES_AT_ONCE = 8192  # of Parquet's groups: small ones read slowly

# Columns that are no measure's.
_OWN = (
    *("path", "class_index", "class_name", "predicted_index", "true_index", "method"),
    *("score", "mean_saliency", "flat"),
)

_Texts = list[str]
_Column = _Texts | NDArray[Any]


def check_format(target: Path) -> None:
    """Check that files of this name can be written, before any work is done.

    Raises:
        LcamError: It is Parquet, and pyarrow is not installed.
    """
    if target.suffix.lower() == PARQUET:
        _pyarrow()


def _pyarrow() -> ModuleType:
    try:
        import pyarrow  # an extra
        import pyarrow.parquet
    except ImportError:
        raise LcamError(
            "Parquet files need pyarrow, which is not installed",
            f"{install_hint('parquet')}; or pass a *.csv",
        ) from None
    module: ModuleType = pyarrow
    return module


class PerImage:
    """A file being written, a context manager: without :meth:`finish` nothing stays of it.

    Args:
        target: Its name, which ends in one of :data:`SUFFIXES`; an old file is replaced.
        methods: The methods' names, as the rows that are added have them.
        measured: K quantities, as the rows' numbers are of.
        nus: Percentages ν of the rows' masked scores.
        labels: True classes by row path; None where nobody knows them.

    Raises:
        LcamError: It cannot be written.
    """

    def __init__(
        self,
        target: Path,
        methods: Sequence[str],
        measured: Sequence[Quantity],
        nus: Sequence[float],
        labels: Mapping[str, int] | None = None,
    ) -> None:
        self._target = target
        self._methods = list(methods)
        self._measured = measured
        self._nus = nus
        self._labels = labels or {}
        self._held = ExitStack()
        with self._disk_errors():
            temporary = self._held.enter_context(atomic_file(target))
            kinds: dict[str, type[_Lines]] = {PARQUET: _Parquet, JSON: _Json}
            self._lines = kinds.get(target.suffix.lower(), _Csv)(temporary)

    def add(self, rows: ScoredRows) -> None:
        """Write the lines of some rows, a line a method each.

        Raises:
            LcamError: The disk is full or fails.
        """
        with self._disk_errors():
            self._lines.write(self._columns(rows))

    def finish(self) -> None:
        """Give the file its name, when all rows have been added.

        Raises:
            LcamError: The disk is full or fails.
        """
        with self._disk_errors():
            self._lines.close()
            self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._lines.close()
        with suppress(_UnfinishedError):  # after `finish` there is nothing left to end
            self._held.__exit__(_UnfinishedError, _UnfinishedError(), None)

    def _columns(self, rows: ScoredRows) -> dict[str, _Column]:
        """The lines as columns: the methods of a row are side by side."""
        M, B = len(self._methods), len(rows.paths)

        def of_rows(values: Sequence[Any]) -> list[Any]:
            return [value for value in values for _ in range(M)]

        def of_maps(values: NDArray[Any]) -> NDArray[Any]:  # (methods, B)
            return np.ascontiguousarray(values.T).reshape(-1)

        numbers = rows.of_quantities(self._measured)
        true = [self._labels.get(path, -1) for path in rows.paths]
        return {
            "path": of_rows(rows.paths),
            "class_index": np.repeat(rows.class_index, M),
            "class_name": of_rows(rows.class_names),
            "predicted_index": np.repeat(rows.predicted_index, M),
            "true_index": np.repeat(np.array(true, np.int32), M),
            "method": self._methods * B,
            "score": np.repeat(rows.full, M),
            **{f"score_{nu_key(nu)}": of_maps(rows.masked[:, m]) for m, nu in enumerate(self._nus)},
            **{
                column_name(quantity): of_maps(numbers[k])
                for k, quantity in enumerate(self._measured)
            },
            "mean_saliency": of_maps(rows.mean_saliency),
            "flat": of_maps(rows.flat),
        }

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise cannot_write(
                self._target, error, needed="some", hint="pass another file with --per-image"
            ) from error


class _UnfinishedError(Exception):
    """Makes the temporary file go."""


def column_name(quantity: Quantity) -> str:
    """Return what the column of a number is called: ``"ad_50"``, ``"insertion"``.

    A measure of a package may have the name of another column: it gets ``"measure_"`` before it.
    """
    name = quantity.measure.name
    if name in _OWN:
        name = f"measure_{name}"
    return name if quantity.nu is None else f"{name}_{nu_key(quantity.nu)}"


class _Lines(Protocol):
    """Where lines go."""

    def __init__(self, path: Path) -> None: ...

    def write(self, columns: Mapping[str, _Column]) -> None: ...

    def close(self) -> None: ...


class _Csv:
    """Lines of text. What is not defined is empty; names are safe in spreadsheets."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("x", encoding="utf-8", newline="")
        self._lines = csv.writer(self._file, lineterminator="\n")
        self._began = False

    def write(self, columns: Mapping[str, _Column]) -> None:
        if not self._began:
            self._lines.writerow(columns)
            self._began = True
        self._lines.writerows(zip(*map(_as_text, columns.values()), strict=True))

    def close(self) -> None:
        self._file.close()


def _as_text(column: _Column) -> _Texts:
    if isinstance(column, list):
        return [csv_text(name) for name in column]
    shown: Callable[[Any], str]
    if column.dtype == np.bool_:
        shown = {True: "true", False: "false"}.__getitem__
    elif column.dtype.kind == "i":
        shown = _index_as_text
    else:
        shown = _number_as_text
    return [shown(value) for value in column.tolist()]


def _index_as_text(value: int) -> str:
    return "" if value < 0 else str(value)


def _number_as_text(value: float) -> str:
    """With seven digits, what float32 has; what is not defined is empty."""
    return "" if np.isnan(value) else f"{value:.7g}"


class _Json:
    """An array of objects, one per line. What is not defined is null; names are as they are."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("x", encoding="utf-8", errors="backslashreplace")
        self._before = "[\n"

    def write(self, columns: Mapping[str, _Column]) -> None:
        for values in zip(*map(_as_json, columns.values()), strict=True):
            line = json.dumps(dict(zip(columns, values, strict=True)), ensure_ascii=False)
            self._file.write(f"{self._before}{line}")
            self._before = ",\n"

    def close(self) -> None:
        if not self._file.closed:
            self._file.write("[]\n" if self._before == "[\n" else "\n]\n")
            self._file.close()


def _as_json(column: _Column) -> list[Any]:
    if isinstance(column, list):
        return column
    if column.dtype.kind == "i":
        return [None if value < 0 else value for value in column.tolist()]
    if column.dtype.kind == "f":
        return [None if np.isnan(value) else float(f"{value:.7g}") for value in column.tolist()]
    values: list[Any] = column.tolist()
    return values


class _Parquet:
    """Columns, in groups of lines. What is not defined is null; names are as they are."""

    def __init__(self, path: Path) -> None:
        self._arrow = _pyarrow()
        self._file = path.open("xb")
        self._writer: Any = None
        self._waiting: list[Any] = []  # tables

    def write(self, columns: Mapping[str, _Column]) -> None:
        self._waiting.append(
            self._arrow.table({name: self._array(column) for name, column in columns.items()})
        )
        if sum(table.num_rows for table in self._waiting) >= _LINES_AT_ONCE:
            self._flush()

    def close(self) -> None:
        if self._file.closed:
            return
        try:
            self._flush()
            if self._writer is not None:
                self._writer.close()
        finally:
            self._file.close()

    def _flush(self) -> None:
        if not self._waiting:
            return
        table = self._arrow.concat_tables(self._waiting)
        self._waiting.clear()
        if self._writer is None:
            self._writer = self._arrow.parquet.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)

    def _array(self, column: _Column) -> Any:
        if isinstance(column, list):  # a file's name need not be Unicode
            texts = [name.encode("utf-8", "backslashreplace").decode() for name in column]
            return self._arrow.array(texts, self._arrow.string())
        if column.dtype.kind == "i":
            return self._arrow.array(column, mask=column < 0)
        if column.dtype.kind == "f":
            return self._arrow.array(column.astype(np.float32), mask=np.isnan(column))
        return self._arrow.array(column)
