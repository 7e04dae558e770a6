"""Boxes of Pascal VOC's XML (Everingham et al., IJCV 2010), a file an image.

A file that declares a document type is refused before anything of it is expanded or fetched:
entities, and files from elsewhere, can only be asked for there.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

from lcam_cli.errors import LcamError
from lcam_cli.measures.object_files.box import (
    Edges,
    NamedBox,
    is_empty,
    number,
    picture_size,
)
from lcam_cli.measures.object_files.text import read_bytes

_MOST_BYTES = 1 << 24
_DEEPEST = 32
_WANTED = "write an <annotation> with <object> and <bndbox>, as in Pascal VOC"
_EDGES = ("xmin", "ymin", "xmax", "ymax")


class VocFile:
    """What one file says.

    Attributes:
        is_annotation: Whether it is of this kind at all, by its first element.
        boxes: Its boxes.
        empty: How many boxes are left out since nothing lies in them.
    """

    def __init__(self) -> None:
        self.is_annotation = False
        self.boxes: list[NamedBox] = []
        self.empty = 0


def read_voc(path: Path, picture: str) -> VocFile:
    """Read one file.

    VOC counts pixels from 1 and names the first and the last of a box: 1 1 1 1 is the first pixel
    alone.

    Args:
        path: The file.
        picture: The image that it is of: its name in the boxes.

    Raises:
        LcamError: It cannot be read, is no XML, declares a document type, is nested too deeply, or
            has a box that is not made of numbers.
    """
    tree = _Tree(path)
    tree.parse(read_bytes(path, _MOST_BYTES))
    found = VocFile()
    found.is_annotation = tree.root == "annotation"
    size = picture_size(tree.texts.get("size/width"), tree.texts.get("size/height"))
    for texts in tree.objects if found.is_annotation else ():
        edges = _edges(texts, path)
        if is_empty(edges):
            found.empty += 1
        else:
            found.boxes.append(NamedBox(picture, texts.get("name", "").strip(), edges, size))
    return found


def _edges(texts: dict[str, str], path: Path) -> Edges:
    found = []
    for name in _EDGES:
        text = texts.get(f"bndbox/{name}")
        if text is None:
            raise LcamError(f"{path}: an object has no bndbox with {name}", _WANTED)
        found.append(number(text.strip(), f"{path}: {name}", _WANTED))
    x0, y0, x1, y1 = found
    return x0 - 1, y0 - 1, x1, y1


class _Tree:
    """The texts of a file that are asked for, gathered while it is parsed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: list[str] = []
        self._text: list[str] = []
        self.root = ""
        self.texts: dict[str, str] = {}
        self.objects: list[dict[str, str]] = []

    def parse(self, data: bytes) -> None:
        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text.append
        try:
            parser.Parse(data, True)
        except expat.ExpatError as error:
            raise LcamError(f"{self._path} is not XML: {error}", _WANTED) from None
        except (LookupError, ValueError) as error:  # an encoding that nobody knows
            raise LcamError(f"{self._path} is not XML: {error}", "save it as UTF-8") from None

    def _doctype(self, *_declared: object) -> NoReturn:
        raise LcamError(
            f"{self._path} declares a document type (<!DOCTYPE …>), which lcam does not read",
            "remove the declaration: boxes need no entities",
        )

    def _start(self, name: str, _attributes: object) -> None:
        if len(self._open) == _DEEPEST:
            raise LcamError(f"{self._path} is nested more than {_DEEPEST} deep", _WANTED)
        self._open.append(name)
        self._text.clear()
        self.root = self.root or name
        if self._open[1:] == ["object"]:
            self.objects.append({})

    def _end(self, _name: str) -> None:
        at, text = self._open[1:], "".join(self._text)
        self._open.pop()
        self._text.clear()
        if at[:1] == ["object"] and len(at) > 1:
            # <part>s of an object have boxes of their own, and lie one deeper.
            self.objects[-1]["/".join(at[1:])] = text
        elif at:
            self.texts["/".join(at)] = text
