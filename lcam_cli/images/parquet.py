"""Parquet files with a column of images, as Hugging Face's ``datasets`` writes them.

A row is an image file: the column has its bytes, by themselves or in a struct beside a path, which
is never opened. Rows are read in place, a few at a time and on from where the last one lay, so that
neither many rows nor large row groups take memory.
"""

from __future__ import annotations

import contextlib
import os
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, BinaryIO

from lcam_cli.errors import BadImageError
from lcam_cli.images.memory import memory_limited
from lcam_cli.images.picture import PictureFormat, identity_of

if TYPE_CHECKING:
    import pyarrow

_NAMES = frozenset(
    {
        *("image", "images", "img", "picture", "photo", "bytes", "content", "data"),
        *("image_bytes", "img_bytes", "image_data", "jpg", "jpeg", "png", "webp", "tif", "tiff"),
    }
)
"""What a column of plain bytes must be called to be one of images."""

_ROWS = 16
_BATCH = 1 << 24
"""Rows decoded at once, and how many bytes these may have, by what the file says."""

_KEPT = 1 << 24
"""Bytes of rows that have been passed, kept for whoever reads in another order."""

_MEMORY = 1 << 30
"""Bytes that decoding rows may take: a page of a few kilobytes may unpack to gigabytes."""

_ENCRYPTED = b"PARE"


class Parquet(PictureFormat):
    """Tables of images: each row is a file of another format."""

    extensions = (".parquet",)
    name = "the decoder of Parquet"
    holds_several = True
    is_table = True

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: tuple[object, _Table] | None = None

    def recognises(self, head: bytes) -> bool:
        """Whether a file is one, encrypted or not."""
        return head.startswith((b"PAR1", _ENCRYPTED))

    def count(self, file: BinaryIO) -> int:
        """How many rows it has; 0 where no column is one of images.

        Raises:
            BadImageError: It is damaged, cut short or encrypted.
        """
        with _errors_in_words():
            table = _Table(file)
            return table.rows if table.columns else 0

    def note(self, file: BinaryIO) -> str:
        """Which column is read, where several could be."""
        with _errors_in_words():
            first, *others = _Table(file).columns or [""]
        return f"its column {first} is read, but not {', '.join(others)}" if others else ""

    def extract(self, file: BinaryIO, number: int) -> bytes:
        """Return the bytes of a row's image.

        Raises:
            BadImageError: There is no such row, or no image in it; or the file is damaged, cut
                short or encrypted.
        """
        with self._lock, _errors_in_words():
            key = identity_of(file)
            if self._last is None or self._last[0] != key:
                self._last = None  # before there are two
                self._last = key, _Table(_own(file))
            try:
                return self._last[1].picture(number)
            except BadImageError:
                raise
            except Exception:  # where it was is not known any more
                self._last = None
                raise


class _Table:
    """An open file.

    Attributes:
        rows: How many it has.
        columns: The names of those that hold images, in the order of the schema.
    """

    def __init__(self, file: BinaryIO) -> None:
        from pyarrow import parquet  # noqa: PLC0415 (an extra)

        # Column chunks are read through a buffer of that many bytes, not as a whole.
        self._file = parquet.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
        metadata = self._file.metadata
        counts = [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)]
        if min(counts, default=0) < 0 or sum(counts) != metadata.num_rows:
            raise BadImageError("a damaged Parquet file")
        self.rows: int = metadata.num_rows
        self._starts = [0, *accumulate(counts)]
        found = {
            field.name: path
            for field in self._file.schema_arrow
            if (path := _path_of_bytes(field)) is not None
        }
        self.columns = list(found)
        self._path = next(iter(found.values()), "")
        leaves = [self._file.schema.column(k).path for k in range(metadata.num_columns)]
        self._leaf = leaves.index(self._path) if self._path else -1
        self._group = -1
        self._rest: Iterator[pyarrow.RecordBatch] = iter(())
        self._passed: deque[tuple[int, list[bytes | None]]] = deque()
        self._kept = 0
        self._next = 0

    def picture(self, row: int) -> bytes:
        """Return the bytes of a row's image."""
        if not self._path:
            raise BadImageError("no column of images in it")
        if not 0 <= row < self.rows:
            raise BadImageError(f"there is no image {row} in it: it holds {self.rows}")
        group = bisect_right(self._starts, row) - 1
        if group != self._group or row < self._first_kept():
            self._begin(group)
        while self._next <= row:
            with memory_limited(_MEMORY):
                self._read_on()
        first, pictures = next(one for one in reversed(self._passed) if one[0] <= row)
        picture = pictures[row - first]
        if picture is None:
            raise BadImageError("no image in its row (paths in a table are not followed)")
        return picture

    def _begin(self, group: int) -> None:
        self._group = -1  # until it has begun
        self._passed.clear()
        self._kept = 0
        self._next = self._starts[group]
        of_group = self._file.metadata.row_group(group)
        size = of_group.column(self._leaf).total_uncompressed_size // max(of_group.num_rows, 1)
        rows = max(1, min(_ROWS, _BATCH // max(size, 1)))
        self._rest = self._file.iter_batches(
            rows, row_groups=[group], columns=[self._path], use_threads=False
        )
        self._group = group

    def _first_kept(self) -> int:
        return self._passed[0][0] if self._passed else self._next

    def _read_on(self) -> None:
        batch = next(self._rest, None)
        if batch is None:
            raise BadImageError("a damaged Parquet file")
        # As Python's bytes: Arrow's buffers are larger than what is in them.
        pictures = _pictures_in(batch.column(0))
        self._passed.append((self._next, pictures))
        self._next += len(pictures)
        self._kept += _size(pictures)
        while len(self._passed) > 1 and self._kept > _KEPT:
            self._kept -= _size(self._passed.popleft()[1])


def _path_of_bytes(field: pyarrow.Field) -> str | None:
    """Return where in a column the bytes of images are; None where it has none."""
    kind = getattr(field.type, "storage_type", field.type)
    if _is_struct(kind):
        inner = [kind.field(k) for k in range(kind.num_fields)]
        has_bytes = any(one.name == "bytes" and _is_binary(one.type) for one in inner)
        return f"{field.name}.bytes" if has_bytes else None
    return str(field.name) if field.name.lower() in _NAMES and _is_binary(kind) else None


def _is_struct(kind: pyarrow.DataType) -> bool:
    from pyarrow import types  # noqa: PLC0415

    return bool(types.is_struct(kind))


def _is_binary(kind: pyarrow.DataType) -> bool:
    from pyarrow import types  # noqa: PLC0415

    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _pictures_in(column: pyarrow.Array) -> list[bytes | None]:
    """Return the bytes in each row of a column, which is they or a struct of them."""
    column = getattr(column, "storage", column)
    if _is_struct(column.type):
        column = column.flatten()[0]  # None where the struct is, too
    pictures: list[bytes | None] = column.to_pylist()
    return pictures


def _size(pictures: Sequence[bytes | None]) -> int:
    return sum(len(picture) for picture in pictures if picture is not None)


def _own(file: BinaryIO) -> BinaryIO:
    """Return a file that stays open when the other is closed."""
    return os.fdopen(os.dup(file.fileno()), "rb")


@contextlib.contextmanager
def _errors_in_words() -> Iterator[None]:
    try:
        yield
    except (BadImageError, MemoryError):
        raise
    except Exception as error:
        # Columns may be encrypted in a file that is not.
        if "crypt" in str(error).lower():
            raise BadImageError("an encrypted Parquet file") from error
        raise BadImageError("a damaged Parquet file") from error
