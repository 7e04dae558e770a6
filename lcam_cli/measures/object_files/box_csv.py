"""Boxes of a CSV file: ``name,x0,y0,x1,y1[,class]``, with or without a line that names columns."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from lcam_cli.errors import LcamError
from lcam_cli.measures.object_files.box import BoxFile, NamedBox, is_empty, number
from lcam_cli.measures.object_files.text import read_text

_LINE = "name,x0,y0,x1,y1 or name,x0,y0,x1,y1,class"
_WANTED = f"write lines {_LINE}, in pixels of the upright image"
# What columns are called, by what they hold.
_COLUMNS = {
    "name": ("name", "filename", "file_name", "file", "path", "image", "image_name", "image_id"),
    "x0": ("x0", "xmin", "x_min", "left"),
    "y0": ("y0", "ymin", "y_min", "top"),
    "x1": ("x1", "xmax", "x_max", "right"),
    "y1": ("y1", "ymax", "y_max", "bottom"),
    "class": ("class", "label", "category", "class_name", "wnid", "synset"),
}
_NO_HEADER = {name: place for place, name in enumerate(_COLUMNS)}


def read_csv(path: Path) -> BoxFile:
    """Read a CSV file. Empty lines, and those that begin with ``#``, are passed over.

    Raises:
        LcamError: It cannot be read, or a line has too few or too many columns, no name, or edges
            that are no numbers or have nothing between them.
    """
    boxes = []
    columns: dict[str, int] | None = None
    for line, fields in _lines(path):
        if columns is None:
            named = _header(fields, path, line)
            columns = named or _NO_HEADER
            if named:
                width = range(len(fields), len(fields) + 1)
                continue
            width = range(5, 7)
        if len(fields) not in width:
            columns_there = "1 column" if len(fields) == 1 else f"{len(fields)} columns"
            raise LcamError(f"{path}, line {line} has {columns_there}", _WANTED)
        boxes.append(_box(fields, columns, f"{path}, line {line}"))
    if not boxes:
        raise LcamError(f"{path} has no boxes", _WANTED)
    return BoxFile(list(dict.fromkeys(box.picture for box in boxes)), boxes, [])


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The number and the fields of each line that has any."""
    # Not `splitlines`, for which more than line breaks end a line: a name may hold U+2028.
    lines = list(io.StringIO(read_text(path), newline=""))
    first = next((one for one in lines if one.strip() and not one.startswith("#")), "")
    separator = next((one for one in ",;\t" if one in first), ",")
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    try:
        for fields in reader:
            stripped = [field.strip() for field in fields]
            if any(stripped) and not stripped[0].startswith("#"):
                yield reader.line_num, stripped
    except csv.Error as error:
        raise LcamError(f"{path}, line {reader.line_num} is not CSV: {error}", _WANTED) from None


def _header(fields: Sequence[str], path: Path, line: int) -> dict[str, int] | None:
    """Where each column is, where the line names them; None where it is a box like all others."""
    if len(fields) < 5 or any(_is_number(one) for one in fields[1:5]):
        return None
    words = [re.sub(r"[\s-]+", "_", one.lower()) for one in fields]
    found = {
        name: next(words.index(one) for one in known if one in words)
        for name, known in _COLUMNS.items()
        if any(one in words for one in known)
    }
    if lacking := [name for name in _COLUMNS if name not in found and name != "class"]:
        raise LcamError(
            f"{path}, line {line} has no column {', '.join(lacking)}: {','.join(fields)[:80]!r}",
            f"use the columns {_LINE}",
        )
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _box(fields: Sequence[str], columns: dict[str, int], where: str) -> NamedBox:
    name = fields[columns["name"]]
    if not name:
        raise LcamError(f"{where} has no image name", _WANTED)
    x0, y0, x1, y1 = (
        number(fields[columns[edge]], f"{where}: {edge}", _WANTED)
        for edge in ("x0", "y0", "x1", "y1")
    )
    if is_empty((x0, y0, x1, y1)):
        small, large = ("x1", "x0") if x1 <= x0 else ("y1", "y0")
        raise LcamError(f"{where}: the box is empty: {small} is not above {large}", _WANTED)
    at = columns.get("class")
    label = fields[at] if at is not None and at < len(fields) else ""
    return NamedBox(name, label, (x0, y0, x1, y1))
