"""What lcam itself has written into a folder of images, so that it is not taken for some.

* overlays: the folder has a file ``.lcam-made``, or lies beside maps as ``lcam explain --out DIR``
  leaves them;
* maps as PNG: their folder's ``info.json`` says so;
* the pages of ``--report``: all they need lies in a folder ``lcam-files``;
* ``losses.png`` beside the ``log.csv`` of a training run;
* figures: ``.lcam-made`` in their folder names them;
* the masks and the overview of ``lcam demo``, beside its ``lcam.toml``.

Only what has the name that lcam gives such an image is passed over: whoever puts a photograph of
their own into one of these folders has it read.
"""
# Paths stay strings, as in find.py.
# ruff: noqa: PTH118, PTH123

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection
from dataclasses import dataclass

from lcam_cli.images.formats import extension_of, picture_extensions
from lcam_cli.images.numbered import file_of

MARK = ".lcam-made"
"""The file that tells what of a folder lcam has written: ``{"overlays": true, "figures": […]}``."""

REPORT_FILES = "lcam-files"
"""The folder beside a page of ``--report`` with all it needs."""

_LONGEST = 1 << 20

# "cat.jpg.281.png": an image's whole name, its class, and the format; long names end in a digest.
_NUMBERED = re.compile(r"(.+)\.[0-9]+\.(png|jpg|webp|tiff|npy)", re.DOTALL)
_DIGEST = re.compile(r"%[0-9a-f]{24}\Z")


@dataclass(frozen=True)
class OutputKind:
    """What a folder's images are, where lcam has written them.

    Attributes:
        name: In words, of one.
        folder: Where they begin.
        all: Whether that is every image below, or those with a class in their name.
    """

    name: str
    folder: str
    all: bool = False

    def is_own(self, name: str) -> bool:
        """Whether an image of this name is one of them."""
        if self.all:
            return True
        match = _NUMBERED.fullmatch(name)
        return match is not None and (
            _DIGEST.search(match[1]) is not None
            or extension_of(file_of(match[1])) in picture_extensions()
        )


@dataclass(frozen=True)
class OwnOutputs:
    """What lcam has written directly into a folder.

    Attributes:
        folder: Its path.
        pictures: What all of its images, and those below it, are; None where they are not ours.
        files: Single images, by their name: what they are, in words.
        folders: What the images of folders in it are, by the folder's name.
    """

    folder: str
    pictures: OutputKind | None
    files: dict[str, str]
    folders: dict[str, OutputKind]

    def what_is(self, name: str) -> tuple[str, str] | None:
        """What an image in the folder is, in words, and where its kind begins; None if not ours.

        Single images begin in the folder itself.
        """
        if name in self.files:
            return self.files[name], self.folder
        if self.pictures is not None and self.pictures.is_own(name):
            return self.pictures.name, self.pictures.folder
        return None


def find_own_outputs(folder: str, names: Collection[str], above: OutputKind | None) -> OwnOutputs:
    """Look for what lcam has written into a folder.

    Args:
        folder: Its path.
        names: All that it holds, hidden files too.
        above: What the images of the folder that it lies in are, where lcam has written them.
    """
    kind = above
    files: dict[str, str] = {}
    folders: dict[str, OutputKind] = {}
    if MARK in names:
        mark = read_mark(folder)
        if mark.get("overlays") is True:
            kind = OutputKind("overlay", folder)
        figures = mark.get("figures")
        if isinstance(figures, list):
            files = {name: "figure" for name in figures if isinstance(name, str)}
    if "info.json" in names and _is_png_maps(folder):
        kind = OutputKind("map", folder)
    if "maps" in names and "overlays" in names and _is_png_maps(os.path.join(folder, "maps")):
        folders["overlays"] = OutputKind("overlay", os.path.join(folder, "overlays"))
    if "losses.png" in names and "log.csv" in names:
        files["losses.png"] = "loss curve"
    if REPORT_FILES in names:
        path = os.path.join(folder, REPORT_FILES)
        folders[REPORT_FILES] = OutputKind("report image", path, all=True)
    if "lcam.toml" in names and "masks" in names and _is_demo(folder):
        files["overview.png"] = "overview"
        folders["masks"] = OutputKind("mask", os.path.join(folder, "masks"), all=True)
        # Those of 0.1.0 have no mark.
        folders["overlays"] = OutputKind("overlay", os.path.join(folder, "overlays"))
    return OwnOutputs(folder, kind, files, folders)


def read_mark(folder: str) -> dict[str, object]:
    """Return what the mark of a folder says; nothing where there is none that can be read."""
    try:
        mark = json.loads(_beginning(os.path.join(folder, MARK)))
    except (ValueError, RecursionError):
        return {}
    return mark if isinstance(mark, dict) else {}


def _is_png_maps(folder: str) -> bool:
    return _beginning(os.path.join(folder, "info.json")).startswith(b'{"schema": "lcam-maps-png/')


def _is_demo(folder: str) -> bool:
    return b'backbone = "lcam-demo"' in _beginning(os.path.join(folder, "lcam.toml"))


def _beginning(path: str) -> bytes:
    try:
        if not os.path.isfile(path):  # noqa: PTH113 (a pipe would have us wait)
            return b""
        with open(path, "rb") as file:
            return file.read(_LONGEST)
    except OSError:
        return b""
