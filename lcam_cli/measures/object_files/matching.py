"""Which image of the run does a name in a file of boxes, or a mask's file name, mean?"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lcam_cli.errors import LcamError
from lcam_cli.images.formats import extension_of, picture_extensions
from lcam_cli.images.numbered import file_of
from lcam_cli.measures.label_file import Line
from lcam_cli.measures.label_match import match_lines
from lcam_cli.measures.object_files.box import short_name


@dataclass
class Pictures:
    """Which images are meant.

    Attributes:
        row_of: By name, the place of the image.
        unmatched: Names of no image of the run.
    """

    row_of: dict[str, int] = field(default_factory=dict)
    unmatched: list[str] = field(default_factory=list)

    def notes(self, source: object, what: str) -> list[str]:
        """Say how many names mean no image of the run, in a line; none for 0."""
        if not self.unmatched:
            return []
        count = len(self.row_of) + len(self.unmatched)
        return [
            f"{source}: {len(self.unmatched)} of {count} {what} match no image of this run, "
            f"e.g. {short_name(self.unmatched[0])}"
        ]


def match_pictures(
    names: Sequence[str], rows: Sequence[str], root: str, source: object
) -> Pictures:
    """Find the image that each name means, by as much of the path as tells images apart.

    The rules are those of label files, :func:`~lcam_cli.measures.label_match.match_lines`. A name
    without an image's extension means the image that is called so but for its extension.

    Args:
        names: Each once.
        rows: What the images are called, each once, relative to ``root`` or absolute.
        root: The folder of the images; may be empty.
        source: Where the names are from, for messages.

    Raises:
        LcamError: A name fits several images, or several names fit one image.
    """
    result = Pictures()
    whole = [name for name in names if _extension(name) in picture_extensions()]
    stems = [name for name in names if _extension(name) not in picture_extensions()]
    _match(result, whole, rows, lambda row: row, root, source)
    _match(result, stems, rows, _stem, root, source)
    name_of: dict[int, str] = {}
    for name, place in result.row_of.items():
        if (other := name_of.setdefault(place, name)) != name:
            raise _both((other, name), rows[place], source)
    return result


def _match(
    result: Pictures,
    names: Sequence[str],
    rows: Sequence[str],
    spelt: Callable[[str], str],
    root: str,
    source: object,
) -> None:
    if not names:
        return
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(spelt(row), []).append(place)
    known = list(places)
    lines = [Line(number, name, name, "") for number, name in enumerate(names)]
    found = match_lines(lines, known, root)
    if found.unclear:
        name = found.unclear[0].name
        fitting = [row for row in rows if _last(spelt(row)) == _last(name)]
        if len(fitting) > 1:
            raise _several(name, fitting, source)
        others = [one for one in names if one != name and _last(one) == _last(name)]
        raise _both((name, *others, name), fitting[0] if fitting else name, source)
    for place, same in found.lines.items():
        of_stem = places[known[place]]
        if len(of_stem) > 1:
            raise _several(same[0].name, [rows[one] for one in of_stem], source)
        result.row_of.update((line.name, of_stem[0]) for line in same)
    result.unmatched += [line.name for line in found.unmatched]


def _both(names: Sequence[str], row: str, source: object) -> LcamError:
    return LcamError(
        f"{source}: the names {short_name(names[0])} and {short_name(names[1])} both fit the "
        f"image {row}",
        "write enough of each path to tell the images apart, or keep one of them",
    )


def _several(name: str, rows: Sequence[str], source: object) -> LcamError:
    more = f" and {len(rows) - 2} more" if len(rows) > 2 else ""
    return LcamError(
        f"{source}: the name {short_name(name)} fits several images: {', '.join(rows[:2])}{more}",
        "write enough of each path to tell the images apart",
    )


def _stem(row: str) -> str:
    """The name less an image's extension: ``scan#0003`` of ``scan.dcm#0003``."""
    file, extension = file_of(row), _extension(row)
    if extension not in picture_extensions():
        return row
    return file[: -len(extension)] + row[len(file) :]


def _extension(name: str) -> str:
    return extension_of(file_of(name))


def _last(name: str) -> str:
    plain = unicodedata.normalize("NFC", name.replace("\\", "/"))
    return plain.rpartition("/")[2].lower()
