"""Which image does a name in a file of labels mean?

Names there are absolute or relative, to a folder that nobody tells, and the last part alone may
name a hundred images: ``image_0001.jpg`` lies in every class's folder of many data sets. So a
name is compared from its end, and as much of the path counts as tells images apart: what fits
two images fits none.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from lcam_cli.measures.label_file import Line

_Parts = tuple[str, ...]


@dataclass
class Matches:
    """Which lines are whose.

    Attributes:
        lines: By place of the row, the lines that mean it.
        unmatched: Lines that mean no row.
        unclear: Those of them whose name fits several rows, or that share it with other lines.
        same_name: Lines of the same name, where some row's last part is that of the name.
    """

    lines: dict[int, list[Line]] = field(default_factory=dict)
    unmatched: list[Line] = field(default_factory=list)
    unclear: list[Line] = field(default_factory=list)
    same_name: list[list[Line]] = field(default_factory=list)


def match_lines(lines: Sequence[Line], rows: Sequence[str], root: str) -> Matches:
    """Find the row that each line means.

    1. A name that is a row's, as rows are called, means that row.
    2. A name that a row's whole path ends with means it, where no other row's path ends so. The
       last part alone is enough only where no other line's name has the same.
    3. Where the folders above differ, as between two machines, the longest end that a name and a
       path share decides, where it is no other row's and no other line's.

    Spellings do not count: ``./``, ``..``, backslashes, the case of the extension, and the two ways
    in which Unicode writes an accent.

    Args:
        lines: The lines.
        rows: What the images are called, each once, relative to ``root`` or absolute.
        root: The folder of the images; may be empty.
    """
    spelt = [_parts(row) for row in rows]
    whole = [
        _parts(f"{root}/{row}") if root and not _is_absolute(row) else _parts(row) for row in rows
    ]
    names = [_parts(line.name) for line in lines]
    if _folds(whole) and _folds(names):
        spelt, whole, names = ([_folded(one) for one in some] for some in (spelt, whole, names))
    by_name: dict[_Parts, list[Line]] = {}
    for line, name in zip(lines, names, strict=True):
        by_name.setdefault(name, []).append(line)
    found = _Search(by_name, spelt, whole)
    found.exact()
    found.ends()
    found.common_ends()
    result = Matches()
    bases = {parts[-1] for parts in whole if parts}
    for name, same in by_name.items():
        known = bool(name) and name[-1] in bases
        if known and len(same) > 1:
            result.same_name.append(same)
        if name in found.row_of:
            result.lines.setdefault(found.row_of[name], []).extend(same)
        else:
            result.unmatched += same
            result.unclear += same if name in found.unclear else []
    return result


class _Search:
    """Finds rows for names; see :func:`match_lines` for the three rules."""

    def __init__(
        self, names: Iterable[_Parts], spelt: Sequence[_Parts], whole: Sequence[_Parts]
    ) -> None:
        self._names = dict.fromkeys(name for name in names if name)
        self._spelt = spelt
        self._whole = whole
        self.row_of: dict[_Parts, int] = {}
        self.unclear: set[_Parts] = set()

    def exact(self) -> None:
        """Rule 1."""
        for row, name in enumerate(self._spelt):
            if name in self._names:
                self.row_of[name] = row

    def ends(self) -> None:
        """Rule 2."""
        rows: dict[_Parts, list[int]] = {}
        for row, path in enumerate(self._whole):
            for end in _ends(path):
                if end in self._names:
                    rows.setdefault(end, []).append(row)
        bases = Counter(name[-1] for name in self._names)
        for name, fitting in rows.items():
            if name in self.row_of:
                continue
            if len(fitting) == 1 and (len(name) > 1 or bases[name[0]] == 1):
                self.row_of[name] = fitting[0]
            else:
                self.unclear.add(name)

    def common_ends(self) -> None:
        """Rule 3."""
        taken = set(self.row_of.values())
        left = [n for n in self._names if n not in self.row_of and n not in self.unclear]
        free = {self._whole[row][-1] for row in range(len(self._whole)) if row not in taken}
        left = [name for name in left if name[-1] in free]
        if not left:
            return
        rows: dict[_Parts, list[int]] = {}
        wanted = {end for name in left for end in _ends(name)}
        for row, path in enumerate(self._whole):
            for end in _ends(path):
                if end in wanted:
                    rows.setdefault(end, []).append(row)
        lines = Counter(end for name in self._names for end in _ends(name) if end in wanted)
        for name in left:
            end = next(end for end in _ends(name) if end in rows)
            if len(rows[end]) == 1 and lines[end] == 1:
                if rows[end][0] not in taken:
                    self.row_of[name] = rows[end][0]
            else:
                self.unclear.add(name)


def _ends(path: _Parts) -> Iterator[_Parts]:
    """The whole path, then without its first part, and so on to the last part alone."""
    return (path[start:] for start in range(len(path)))


def _parts(path: str) -> _Parts:
    """The parts of a path, less what says nothing."""
    parts: list[str] = []
    for part in unicodedata.normalize("NFC", path.replace("\\", "/")).split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return tuple(parts)


def _is_absolute(path: str) -> bool:
    return path.startswith("/")


def _folded(path: _Parts) -> _Parts:
    """The path with its extension in lower case."""
    if not path:
        return path
    stem, dot, extension = path[-1].rpartition(".")
    return (*path[:-1], f"{stem}{dot}{extension.lower()}" if dot else path[-1])


def _folds(paths: Sequence[_Parts]) -> bool:
    """Whether paths that differ still do when the case of their extensions does not count."""
    different = set(paths)
    return len(different) == len({_folded(path) for path in different})
