"""Reading a file of labels: an image and its class on each line, however they are set apart.

People have these files from spreadsheets, from data sets and from scripts of their own, so what
separates a name from its class is found line by line: the name ends with an image's extension,
and the class is the rest. Only where the first line names the columns are they counted.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lcam_cli.errors import LcamError
from lcam_cli.images.formats import picture_extensions
from lcam_cli.images.numbered import file_of

_LINE_ENDS = re.compile(r"\r\n|\r|\n")
_SEPARATORS = "\t,; "
# What columns are called, the surest first: of several that fit, that one is taken.
_NAME_WORDS = (
    *("filename", "file_name", "filepath", "file_path", "path", "image_path", "img_path"),
    *("image_file", "image_name", "imagename", "img_name", "fname", "file", "image", "images"),
    *("img", "picture", "photo", "name", "image_id", "id"),
)
_CLASS_WORDS = (
    *("class_name", "classname", "label_name", "category_name", "true_class", "ground_truth"),
    *("class", "label", "target", "category", "classes", "labels", "targets", "wnid", "synset"),
    *("species", "class_index", "class_idx", "class_id", "classid", "label_index", "label_id"),
    *("category_id", "y", "index"),
)


@dataclass(frozen=True)
class Line:
    """One line of a file of labels.

    Attributes:
        number: Counted from 1.
        text: As it stands there.
        name: Of the image.
        label: Its class, by name or index, as it is written.
    """

    number: int
    text: str
    name: str
    label: str


@dataclass(frozen=True)
class _Header:
    """A first line that names the columns.

    Attributes:
        separator: What stands between two.
        name: The column of the image's name, from 0.
        label: That of its class.
        columns: How many there are.
    """

    separator: str
    name: int
    label: int
    columns: int


def read_label_file(path: Path, is_class: Callable[[str], bool]) -> list[Line]:
    """Read the lines of a file of labels.

    A line is an image's name and its class, with blanks, a tab, a comma or a semicolon between
    them; both may be in double quotes, as CSV has it. Empty lines, and those that begin with ``#``,
    are passed over, and so is a first line that names the columns; then they may be more than two,
    in any order.

    Args:
        path: The file, UTF-8 (or UTF-16 with its mark, as spreadsheets write it).
        is_class: Whether a text names a class. What could be a header is none where its word for
            the class is a class.

    Raises:
        LcamError: It cannot be read, or a line has no class.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LcamError(
            f"cannot read labels from {path}: {error.strerror}",
            "pass a file with lines `name class`, or `--labels folders`",
        ) from None
    lines = []
    header: _Header | None = None
    is_first = True
    for number, text in enumerate(_LINE_ENDS.split(_decoded(path, data)), 1):
        if not text.strip() or text.startswith("#"):
            continue
        header = _header_of(text, is_class) if is_first else header
        if not (is_first and header):
            name, label = _cut(text.strip(), header)
            if not label:
                raise LcamError(
                    f"{path}, line {number}: {text.strip()!r} has no class", "write `name class`"
                )
            lines.append(Line(number, text.strip(), name, label))
        is_first = False
    return lines


def _decoded(path: Path, data: bytes) -> str:
    """The text; bytes that are no UTF-8 become surrogates, as in the names of files."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError:
            raise LcamError(f"{path} is not text", "save it as UTF-8") from None
    return data.decode("utf-8-sig", "surrogateescape")


def _header_of(text: str, is_class: Callable[[str], bool]) -> _Header | None:
    """What a line says of the columns; None where it is an image's like all others."""
    for separator in _SEPARATORS:
        given = [word.strip() for word in _fields(text.strip(), separator)]
        words = [re.sub(r"[\s-]+", "_", word.lower()) for word in given]
        if len(words) < 2:
            continue
        name, label = _column(words, _NAME_WORDS), _column(words, _CLASS_WORDS)
        if name is not None and label is not None and not is_class(given[label]):
            return _Header(separator, name, label, len(words))
    return None


def _column(words: Sequence[str], known: Sequence[str]) -> int | None:
    """The place of the surest of the known words; None where there is none."""
    return next((words.index(word) for word in known if word in words), None)


def _cut(text: str, header: _Header | None) -> tuple[str, str]:
    """Name and class of a line; the class is empty where it has none."""
    if header and (header.name, header.label, header.columns) != (0, 1, 2):
        fields = _fields(text, header.separator)
        if len(fields) <= max(header.name, header.label):
            return text, ""
        return fields[header.name].strip(), fields[header.label].strip()
    if text.startswith('"'):
        end = re.match(r'"(?:[^"]|"")*"', text)
        after = text[end.end() :].lstrip(" ")[:1] if end else ""
        separator = after if after and after in _SEPARATORS else " "
        name, *rest = _fields(text, separator)
        return name, _unquoted(separator.join(rest), separator)
    places = [i for i, character in enumerate(text) if character in _SEPARATORS]
    pictures = (i for i in places if _extension(text[:i]) in picture_extensions())
    any_file = (i for i in places if _extension(text[:i]))
    # A name without an extension ends where the header says, else at the first that could be.
    told = [text.find(header.separator)] if header and header.separator in text else places
    at = next(pictures, None) or next(any_file, None) or (told[0] if told else len(text))
    return text[:at], _unquoted(text[at + 1 :], text[at : at + 1])


def _unquoted(rest: str, separator: str) -> str:
    """What follows a name, without the quotes around it and the empty columns behind it."""
    rest = rest.strip().strip("\t,;").strip()
    if rest.startswith('"'):
        return _fields(rest, separator or " ")[0].strip()
    return rest


def _fields(text: str, separator: str) -> list[str]:
    """The parts of a line of CSV."""
    try:
        return next(csv.reader([text], delimiter=separator, skipinitialspace=True), [text])
    except csv.Error:  # a field longer than CSV may have
        return [text]


def _extension(name: str) -> str:
    suffix = PurePosixPath(file_of(name.replace("\\", "/").rstrip())).suffix.lower()
    return suffix if len(suffix) > 1 else ""
