"""How the images of a file that holds several are called: ``FILE#0003``, from 0."""
# Paths stay strings, as in find.py.
# ruff: noqa: PTH113

from __future__ import annotations

import os
import re

_NUMBERED = re.compile(r"(.+[^/])#([0-9]{1,9})", re.DOTALL)


def numbered(file: str, number: int, digits: int) -> str:
    """Return what an image of a file is called.

    Args:
        file: Its path.
        number: Of the image, from 0.
        digits: How many digits the number has at least.
    """
    return f"{file}#{number:0{digits}}"


def split_number(path: str) -> tuple[str, int] | None:
    """Return the file and the number of an image that is called ``FILE#N``; None for others."""
    if "#" not in path:  # most have none
        return None
    match = _NUMBERED.fullmatch(path)
    return None if match is None else (match[1], int(match[2]))


def file_of(name: str) -> str:
    """Return what a name is but for the number of an image: ``FILE``, of ``FILE#N`` too."""
    split = split_number(name)
    return name if split is None else split[0]


def file_and_number(path: str) -> tuple[str, int | None]:
    """Return the file that an image lies in, and its number in there.

    A file of that very name is one: ``FILE#N`` means an image of ``FILE`` only where there is
    ``FILE`` and no ``FILE#N``.

    Args:
        path: ``FILE#N``, or a file.
    """
    split = split_number(path)
    if split is None or os.path.lexists(path) or not os.path.isfile(split[0]):
        return path, None
    return split
